//! Namespaces with their own addresses, wired to a router that can cut each link in each direction.
//!
//! The whole run lives in a private network namespace (the router): it was started under `unshare --net`.
//! Each node has a namespace of its own behind it. A cut is a policy rule of the router: the packets of one
//! direction of one link are swallowed (a pulled cable) or answered with "unreachable" (a closed gate). It
//! needs nothing but iproute2.

use anyhow::{Context as _, Result, bail};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

/// A part of the cluster with an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// A node, from 0.
    Node(u8),
    Postgres,
    RabbitMq,
    Redis,
}

/// How a cut link answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Not at all.
    Drop,
    /// "unreachable".
    Reject,
}

impl Place {
    /// Its address.
    pub(crate) fn address(self) -> Ipv4Addr {
        match self {
            Self::Node(n) => Ipv4Addr::new(10, 91, 1 + n, 2),
            Self::Postgres => SERVERS[0],
            Self::RabbitMq => SERVERS[1],
            Self::Redis => SERVERS[2],
        }
    }
}

const SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(10, 91, 0, 11), Ipv4Addr::new(10, 91, 0, 12), Ipv4Addr::new(10, 91, 0, 13)];
/// Where the effect sink listens: never cut.
pub(crate) const SINK: Ipv4Addr = Ipv4Addr::new(10, 91, 0, 14);

/// The namespaces of one run. They go away with it.
pub(crate) struct Sandbox {
    nodes: u8,
    /// The rules that are set, with their priorities.
    cuts: BTreeMap<(Place, Place), u32>,
    next: u32,
}

impl Sandbox {
    /// Wires `nodes` namespaces to this one. It must be private: its routing is changed.
    pub(crate) fn new(nodes: u8) -> Result<Self> {
        ip("link set lo up")?;
        for address in SERVERS.iter().chain([&SINK]) {
            ip(&format!("addr add {address}/32 dev lo"))?;
        }
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("cannot let the router forward")?;
        // Addresses of this namespace are looked up after the cuts, else nothing could be cut from a server.
        ip("rule add from all lookup local prio 1000")?;
        ip("rule del from all lookup local prio 0")?;
        let sandbox = Self { nodes, cuts: BTreeMap::new(), next: 10 };
        for n in 0..nodes {
            sandbox.wire(n)?;
        }
        Ok(sandbox)
    }

    /// The name of a node's namespace.
    pub(crate) fn namespace(n: u8) -> String {
        format!("callboard-{}-{n}", std::process::id())
    }

    fn wire(&self, n: u8) -> Result<()> {
        let (namespace, net) = (Self::namespace(n), 1 + n);
        ip(&format!("netns add {namespace}"))?;
        ip(&format!("link add node{n} type veth peer name eth0 netns {namespace}"))?;
        ip(&format!("addr add 10.91.{net}.1/24 dev node{n}"))?;
        ip(&format!("link set node{n} up"))?;
        ip(&format!("-n {namespace} addr add 10.91.{net}.2/24 dev eth0"))?;
        ip(&format!("-n {namespace} link set eth0 up"))?;
        ip(&format!("-n {namespace} link set lo up"))?;
        ip(&format!("-n {namespace} route add default via 10.91.{net}.1"))
    }

    /// Cuts one direction of a link.
    pub(crate) fn cut(&mut self, from: Place, to: Place, how: Cut) -> Result<()> {
        if self.cuts.contains_key(&(from, to)) {
            return Ok(());
        }
        let kind = match how {
            Cut::Drop => "blackhole",
            Cut::Reject => "unreachable",
        };
        let prio = self.next;
        self.next += 1;
        ip(&format!("rule add from {} to {} prio {prio} {kind}", from.address(), to.address()))?;
        self.cuts.insert((from, to), prio);
        Ok(())
    }

    /// Heals every link.
    pub(crate) fn heal(&mut self) -> Result<()> {
        for prio in std::mem::take(&mut self.cuts).into_values() {
            ip(&format!("rule del prio {prio}"))?;
        }
        Ok(())
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for n in 0..self.nodes {
            // What does not go away now goes with the machine; the run's verdict does not hang on it.
            let _ = ip(&format!("netns del {}", Self::namespace(n)));
        }
    }
}

fn ip(args: &str) -> Result<()> {
    let output = Command::new("ip")
        .args(args.split(' '))
        .stdin(Stdio::null())
        .output()
        .context("cannot run `ip` (Debian: iproute2)")?;
    if !output.status.success() {
        bail!("`ip {args}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
