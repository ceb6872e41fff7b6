//! The certificates themselves.

use super::{NODE, Node, is_host};
use chrono::{Datelike, Days, NaiveDate};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, Error, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::net::IpAddr;

/// A certificate and its key, in PEM form.
pub(super) struct Issued {
    pub(super) cert: String,
    pub(super) key: String,
}

/// A CA that can sign.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub(super) fn new(today: NaiveDate, until: NaiveDate) -> Result<(Self, Issued), Error> {
        let key = KeyPair::generate()?;
        let mut params = ca(&key);
        valid(&mut params, today, until);
        let issued = Issued { cert: params.self_signed(&key)?.pem(), key: key.serialize_pem() };
        Ok((Self { issuer: Issuer::new(params, key) }, issued))
    }

    /// The one of a key. What is needed of its certificate follows from the key.
    pub(super) fn from_key(pem: &str) -> Result<Self, Error> {
        let key = KeyPair::from_pem(pem)?;
        Ok(Self { issuer: Issuer::new(ca(&key), key) })
    }

    /// A certificate for a node, to be a server and a client with.
    pub(super) fn issue(&self, node: &Node, today: NaiveDate, until: NaiveDate) -> Result<Issued, Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, node.name.as_str());
        let mut hosts = vec![NODE.to_owned()];
        if is_host(&node.name) {
            hosts.push(node.name.clone());
        }
        hosts.extend(node.addresses.iter().cloned());
        for host in hosts {
            let name = match host.parse::<IpAddr>() {
                Ok(ip) => SanType::IpAddress(ip),
                Err(_) => SanType::DnsName(host.try_into()?),
            };
            if !params.subject_alt_names.contains(&name) {
                params.subject_alt_names.push(name);
            }
        }
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        valid(&mut params, today, until);
        Ok(Issued { cert: params.signed_by(&key, &self.issuer)?.pem(), key: key.serialize_pem() })
    }
}

/// A CA's description. Its name follows from its key, so that the CAs of two clusters can be told apart, and
/// a CA can be used again without parsing its certificate.
fn ca(key: &KeyPair) -> CertificateParams {
    let mut params = CertificateParams::default();
    let mark: String = params.key_identifier(key).iter().take(4).map(|b| format!("{b:02x}")).collect();
    params.distinguished_name.push(DnType::CommonName, format!("Callboard cluster CA {mark}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// From the day before, for clocks differ, to the end of the last day.
fn valid(params: &mut CertificateParams, today: NaiveDate, until: NaiveDate) {
    let date = |day: NaiveDate| {
        let part = |n: u32| u8::try_from(n).unwrap_or(1);
        rcgen::date_time_ymd(day.year().min(9_999), part(day.month()), part(day.day()))
    };
    params.not_before = date(today.checked_sub_days(Days::new(1)).unwrap_or(today));
    params.not_after = date(until.checked_add_days(Days::new(1)).unwrap_or(until));
}
