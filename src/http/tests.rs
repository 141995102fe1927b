use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

struct OneJob;

#[async_trait]
impl JobsView for OneJob {
    async fn jobs(&self) -> Result<Value, String> {
        Ok(json!({"jobs": [{"job_id": "known"}]}))
    }
    async fn job(&self, id: &JobId) -> Result<Option<Value>, String> {
        match id.as_str() {
            "known" => Ok(Some(json!({"job_id": "known"}))),
            "broken" => Err("the folder is away".into()),
            _ => Ok(None),
        }
    }
}

fn views() -> Views {
    Views { metrics: Arc::new(Metrics::new()), health: Health::new(), jobs: Arc::new(OneJob) }
}

async fn bind(listen: &str, views: Views) -> Result<Option<HttpServer>, HttpError> {
    HttpServer::bind(&HttpConfig { listen: listen.into(), details: false }, views).await
}

/// Status line and body of one request.
async fn ask(address: SocketAddr, request_line: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    let request = format!("{request_line} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("read");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.lines().next().expect("a status").to_owned(), body.to_owned())
}

#[tokio::test]
async fn what_is_asked_is_answered_and_nothing_can_be_changed() {
    let views = views();
    let server = bind("127.0.0.1:0", views.clone()).await.expect("binds").expect("on");
    let (address, stop) = (server.address(), CancellationToken::new());
    let serving = tokio::spawn(server.serve(stop.clone()));

    let (status, body) = ask(address, "GET /metrics").await;
    assert!(status.contains("200") && body.contains("adu_export_build_info"), "{status} {body}");
    assert!(ask(address, "GET /healthz").await.0.contains("200"));
    let (status, body) = ask(address, "GET /readyz").await;
    assert!(status.contains("503") && body.contains("is starting"), "{status} {body}");
    views.health.clear("daemon");
    assert!(ask(address, "GET /readyz").await.0.contains("200"));
    assert!(ask(address, "GET /api/jobs").await.1.contains("known"));
    assert!(ask(address, "GET /api/jobs/known").await.0.contains("200"));
    let (status, body) = ask(address, "GET /api/jobs/other.r1").await;
    assert!(status.contains("404") && body.contains("other.r1"), "{status} {body}");
    let (status, body) = ask(address, "GET /api/jobs/broken").await;
    assert!(status.contains("503") && body.contains("the folder is away"), "{status} {body}");
    assert!(ask(address, "GET /api/jobs/..%2fx").await.0.contains("400"));
    assert!(ask(address, "DELETE /api/jobs/known").await.0.contains("405"));

    stop.cancel();
    serving.await.expect("no panic").expect("orderly");
    assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_the_end() {
    let server = bind("127.0.0.1:0", views()).await.expect("binds").expect("on");
    let (address, stop) = (server.address(), CancellationToken::new());
    let serving = tokio::spawn(server.serve(stop.clone()));
    let mut silent = TcpStream::connect(address).await.expect("connects");
    silent.write_all(b"GET /metrics HT").await.expect("written");
    stop.cancel();
    let ended = tokio::time::timeout(GRACE * 3, serving).await.expect("in time");
    ended.expect("no panic").expect("orderly");
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_setting() {
    let first = bind("127.0.0.1:0", views()).await.expect("binds").expect("on");
    let listen = first.address().to_string();
    let error = bind(&listen, views()).await.err().expect("in use").to_string();
    assert!(error.contains("http.listen") && error.contains(&listen), "{error}");
    assert!(bind("off", views()).await.expect("fine").is_none());
    assert!(bind("nonsense", views()).await.err().expect("no address").to_string().contains("host:port"));
}
