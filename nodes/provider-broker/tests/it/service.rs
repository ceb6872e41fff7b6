//! The broker as the mesh sees it.

use crate::support::{Act, KEY, NOW, Scripted, hello, one, picture, scripted_with};
use callboard_contracts::mesh::v1 as mesh;
use callboard_contracts::mesh::v1::provider_broker_service_server::ProviderBrokerService;
use callboard_contracts::v1;
use callboard_domain::convert;
use callboard_domain::llm::ErrorKind;
use callboard_provider_broker::{Config, Service};
use callboard_testkit::fake_provider::Fault;
use futures::StreamExt;
use std::time::Duration;
use tonic::{Code, Request};

fn generate() -> Request<mesh::GenerateRequest> {
    let request = Some(convert::text_request_to_proto(&hello()));
    Request::new(mesh::GenerateRequest { request, ..Default::default() })
}

fn stream() -> Request<mesh::GenerateStreamRequest> {
    let request = Some(convert::text_request_to_proto(&hello()));
    Request::new(mesh::GenerateStreamRequest { request, ..Default::default() })
}

#[tokio::test]
async fn calls_are_answered() {
    let (_fake, broker) = one().await;
    let service = Service::new(broker);
    let answer = service.generate(generate()).await.unwrap().into_inner().response.unwrap();
    let summary = answer.summary.unwrap();
    assert_eq!(
        (answer.text.as_str(), summary.provider.as_str(), summary.output_tokens),
        ("fake: hello you", "main", 3)
    );

    let pieces: Vec<_> = service.generate_stream(stream()).await.unwrap().into_inner().collect().await;
    let pieces: Vec<_> = pieces.into_iter().map(|p| p.unwrap().response.unwrap()).collect();
    let (last, text) = pieces.split_last().unwrap();
    assert_eq!(text.iter().map(|p| p.delta.as_str()).collect::<String>(), "fake: hello you");
    assert!(text.iter().all(|p| p.summary.is_none()) && last.summary.is_some());

    let image = Request::new(convert::image_request_to_proto(&picture()));
    assert_eq!(service.generate_image(image).await.unwrap().into_inner().media_type, "image/png");

    let list = service
        .list_providers(Request::new(mesh::ListProvidersRequest::default()))
        .await
        .unwrap()
        .into_inner()
        .providers;
    assert_eq!((list[0].name.as_str(), list[0].adapter.as_str(), list[0].successes), ("main", "openai", 3));
    assert!(list[0].has_key && !format!("{list:?}").contains(KEY));
}

#[tokio::test(start_paused = true)]
async fn the_list_says_how_breakers_stand() {
    let a = Scripted::new("a", Act::Fail(ErrorKind::QuotaExceeded));
    let (broker, _) = scripted_with(&Config::default(), &[&a], false);
    let service = Service::new(broker);
    let list = async || {
        let request = Request::new(mesh::ListProvidersRequest::default());
        service.list_providers(request).await.unwrap().into_inner().providers
    };
    assert_eq!(list().await[0].breakers, []);
    service.generate(generate()).await.unwrap_err();
    let at = |seconds| Some(convert::time_to_proto(NOW.after(Duration::from_secs(seconds))));
    let mut expected = v1::ProviderBreaker {
        model: "scripted-text".into(),
        key: String::new(),
        state: v1::BreakerState::Open.into(),
        cause: "PROVIDER_QUOTA_EXCEEDED".into(),
        since: at(0),
        until: at(300),
        trips: 1,
    };
    assert_eq!(list().await[0].breakers, [expected.clone()]);
    // The clock of the wall stands still here: what is told is measured back from it.
    tokio::time::advance(Duration::from_secs(300)).await;
    let before = callboard_domain::Timestamp::from_micros(NOW.micros() - 300_000_000);
    expected.since = Some(convert::time_to_proto(before));
    (expected.state, expected.until) = (v1::BreakerState::HalfOpen.into(), None);
    assert_eq!(list().await[0].breakers, [expected]);
}

#[tokio::test]
async fn errors_keep_their_kind_and_wait() {
    let (fake, broker) = one().await;
    let service = Service::new(broker);
    fake.fault(Fault::RateLimit { retry_after: Some(3) });
    let status = service.generate(generate()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let error = convert::error_from_status(&status);
    assert_eq!((error.kind, error.retry_after), (ErrorKind::RateLimited, Some(Duration::from_secs(3))));

    fake.fault(Fault::StreamCut { after_chunks: 1 });
    let pieces: Vec<_> = service.generate_stream(stream()).await.unwrap().into_inner().collect().await;
    let status = pieces.last().unwrap().as_ref().unwrap_err();
    assert_eq!(convert::error_from_status(status).kind, ErrorKind::Connection);
}

#[tokio::test]
async fn a_wrong_request_names_its_fields() {
    let (_fake, broker) = one().await;
    let service = Service::new(broker);
    let status = service.generate(Request::new(mesh::GenerateRequest::default())).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "request: must be set"));
    let status =
        service.generate_image(Request::new(mesh::GenerateImageRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
}
