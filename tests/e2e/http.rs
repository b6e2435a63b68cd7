//! HTTP requests of tasks: what is sent and read, what is refused, and what keeps a run in memory.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    eventually,
    guests::guest,
    server::Server,
    web::{CERTIFICATE, Web},
};

const SOON: Duration = Duration::from_secs(60);
/// How long a run may take whose component has an engine inside: it is compiled as a whole when it is first resumed, by an
/// unoptimised compiler.
const ONCE_COMPILED: Duration = Duration::from_secs(600);

/// A server with the guest deployed.
async fn with_guest(name: &str, arguments: &[&str]) -> Server {
    let server = Server::start(arguments).await;
    server.deploy(guest(name)).await;
    server
}

/// What became of one request.
async fn fetch(server: &Server, request: Value) -> Value {
    let run = server.trigger("fetch", request).await;
    server.run_with_status(&run, "COMPLETED", SOON).await["output"].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_sent_with_their_fields_and_bodies_and_answers_are_read() {
    let (server, web) = (with_guest("rust-http", &[]).await, Web::start().await);
    let to = web.authority();
    let answer = fetch(&server, json!({"authority": to, "path": "/hello", "headers": [["x-test", "1"]]})).await;
    assert_eq!(
        (&answer["status"], &answer["text"], &answer["error"]),
        (&json!(200), &json!("hello"), &Value::Null),
        "{answer:#}"
    );
    let head = web.heads()[0].to_ascii_lowercase();
    assert!(head.starts_with("get /hello http/1.1\r\n"), "{head}");
    for field in [format!("host: {to}"), "x-test: 1".into(), "connection: close".into()] {
        assert!(head.contains(&format!("\r\n{field}\r\n")), "{field} in {head}");
    }
    let chunked = fetch(&server, json!({"authority": to, "path": "/echo", "method": "POST", "upload": 300_000})).await;
    assert_eq!(chunked["text"], "300000", "{chunked:#}");
    let headers = json!([["content-length", "5000"]]);
    let counted =
        fetch(&server, json!({"authority": to, "path": "/echo", "method": "PUT", "headers": headers, "upload": 5000})).await;
    assert_eq!(counted["text"], "5000", "{counted:#}");
    let big = fetch(&server, json!({"authority": to, "path": "/big?5000001"})).await;
    assert_eq!((&big["bytes"], &big["error"]), (&json!(5_000_001), &Value::Null), "{big:#}");
    // It is the guest's to follow, under the same rules.
    let redirect = fetch(&server, json!({"authority": to, "path": "/redirect"})).await;
    assert_eq!(redirect["status"], 302, "{redirect:#}");
    eventually("no connection is left", SOON, async || (web.open() == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn addresses_that_are_not_public_are_refused_unless_they_are_allowed() {
    let (server, web) = (with_guest("rust-http", &["--allow-egress", "public"]).await, Web::start().await);
    let port = web.address.port();
    for host in ["127.0.0.1", "localhost", "127.1", "0x7f000001", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]"] {
        let answer = fetch(&server, json!({"authority": format!("{host}:{port}"), "path": "/hello"})).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains("DestinationIpProhibited"), "{host}: {answer:#}");
    }
    let run = server.trigger("fetch", json!({"authority": "169.254.169.254"})).await;
    server.run_with_status(&run, "COMPLETED", SOON).await;
    let is_told = |(source, line): &(String, String)| source == "host" && line.contains("is a link-local address");
    eventually("the log says why", SOON, async || server.logs(&run).await.iter().any(is_told).then_some(())).await;
    assert_eq!(web.heads(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_allowed_is_open_besides_public_addresses() {
    let (server, web) = (with_guest("rust-http", &["--allow-egress", "10.0.0.0/8,127.0.0.1"]).await, Web::start().await);
    let port = web.address.port();
    let allowed = fetch(&server, json!({"authority": format!("127.0.0.1:{port}"), "path": "/hello"})).await;
    assert_eq!(allowed["text"], "hello", "{allowed:#}");
    let neighbour = fetch(&server, json!({"authority": format!("127.0.0.2:{port}"), "path": "/hello"})).await;
    assert!(neighbour["error"].as_str().unwrap().contains("DestinationIpProhibited"), "{neighbour:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_have_the_error_code_of_wasi_for_them() {
    let server = with_guest("rust-http", &["--http-max-body-bytes", "1000000", "--http-connect-timeout", "2s"]).await;
    let web = Web::start().await;
    let to = web.authority();
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    for (request, code) in [
        (json!({"authority": closed}), "ConnectionRefused"),
        (json!({"authority": "nowhere.invalid"}), "Dns"),
        (json!({"authority": format!("user:password@{to}")}), "HttpRequestUriInvalid"),
        (json!({"authority": to, "method": "CONNECT"}), "HttpRequestMethodInvalid"),
        (json!({"authority": to, "path": "/hang", "firstByteMs": 100}), "HttpResponseTimeout"),
        (json!({"authority": to, "path": "/gated", "betweenBytesMs": 100}), "ConnectionReadTimeout"),
        (json!({"authority": to, "path": "/big?1000001"}), "HttpResponseBodySize(Some(1000001))"),
        (json!({"authority": to, "path": "/endless"}), "HttpResponseBodySize(Some(1000000))"),
        (json!({"authority": to, "path": "/large-field?40000"}), "HttpResponseHeaderSectionSize"),
        (json!({"authority": to, "path": "/many-fields?300"}), "HttpResponseHeaderSectionSize"),
        (json!({"authority": to, "path": "/cut"}), "HttpResponseIncomplete"),
        (json!({"authority": to, "path": "/nonsense"}), "HttpProtocolError"),
        (json!({"authority": to, "path": "/echo", "method": "POST", "upload": 2_000_000}), "HttpRequestBodySize(Some(1000000))"),
    ] {
        let answer = fetch(&server, request.clone()).await;
        let error = answer["error"].as_str().unwrap_or_default();
        assert!(error.contains(code), "{request}: {answer:#}");
    }
    let allowed = fetch(&server, json!({"authority": to, "path": "/big?1000000"})).await;
    assert_eq!((&allowed["bytes"], &allowed["error"]), (&json!(1_000_000), &Value::Null));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_must_show_who_they_are() {
    let web = Web::start_secure().await;
    let folder = tempfile::tempdir().unwrap();
    let trusted = folder.path().join("trusted.pem");
    std::fs::write(&trusted, CERTIFICATE).unwrap();
    let request = |host: &str| json!({"authority": format!("{host}:{}", web.address.port()), "path": "/hello", "isSecure": true});

    let trusting = Server::start_with(&[], &[("SSL_CERT_FILE", trusted.to_str().unwrap())]).await;
    trusting.deploy(guest("rust-http")).await;
    let answer = fetch(&trusting, request("127.0.0.1")).await;
    assert_eq!((&answer["text"], &answer["error"]), (&json!("hello"), &Value::Null), "{answer:#}");
    let other_name = fetch(&trusting, request("localhost")).await;
    assert!(other_name["error"].as_str().unwrap().contains("TlsCertificateError"), "{other_name:#}");

    let other = with_guest("rust-http", &[]).await;
    let unknown = fetch(&other, request("127.0.0.1")).await;
    assert!(unknown["error"].as_str().unwrap().contains("TlsCertificateError"), "{unknown:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_a_run_has_open_are_limited() {
    let (server, web) =
        (with_guest("rust-http", &["--http-concurrency", "4", "--http-first-byte-timeout", "1s"]).await, Web::start().await);
    let run = server.trigger("many", json!([web.authority(), 9])).await;
    let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
    let count =
        |code: &str| ended["output"].as_array().unwrap().iter().filter(|one| one.as_str().unwrap().contains(code)).count();
    assert_eq!((count("HttpResponseTimeout"), count("ConnectionLimitReached")), (4, 5), "{ended:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_stays_in_memory_while_a_request_is_in_progress_and_says_so() {
    let (server, web) = (with_guest("rust-http", &["--grace", "0s"]).await, Web::start().await);
    let (unread, untaken) = ("is part of an HTTP response that was not read", "is the answer to an HTTP request");
    for (at, path, is_sleep, what) in
        [("middle", "/gated", false, unread), ("middle", "/gated", true, unread), ("sent", "/hello", false, untaken)]
    {
        let request = json!({"authority": web.authority(), "path": path, "wait": at, "waitMs": 3000, "isSleep": is_sleep});
        let run = server.trigger("fetch", request).await;
        eventually("the log says why it is kept", SOON, async || {
            server.logs(&run).await.iter().any(|(source, line)| source == "host" && line.contains(what)).then_some(())
        })
        .await;
        assert_eq!(server.run(&run).await["status"], "EXECUTING", "{at}");
        assert_eq!(super::files(&server.data().join("blobs/checkpoints")), [] as [std::path::PathBuf; 0], "{at}");
        web.open_gate();
        let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
        assert!(ended["output"]["error"].is_null(), "{ended:#}");
        let text = if path == "/gated" { "first second" } else { "hello" };
        assert_eq!(ended["output"]["text"], text, "{ended:#}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_is_suspended_as_ever_once_its_request_is_over() {
    let (mut server, web) = (with_guest("rust-http", &["--grace", "0s", "--lease", "1s"]).await, Web::start().await);
    for path in ["/hello", "/empty"] {
        let request = json!({"authority": web.authority(), "path": path, "wait": "after", "waitMs": 1500});
        let run = server.trigger("fetch", request).await;
        server.run_with_status(&run, "WAITING", SOON).await;
        let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
        assert_eq!(ended["output"]["status"], 200, "{ended:#}");
    }
    // Handles of a request that is over say after a kill what they said before.
    let request = json!({"authority": web.authority(), "path": "/hello", "wait": "end", "waitMs": 3000});
    let run = server.trigger("fetch", request).await;
    server.run_with_status(&run, "WAITING", SOON).await;
    server.kill();
    server.start_again().await;
    let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
    let kept = r#"(true, true) 200 1 true Err("StreamError::Closed") (true, 2, true) true true"#;
    assert_eq!((&ended["output"]["kept"], &ended["output"]["error"]), (&json!(kept), &Value::Null), "{ended:#}");
    let asked = web.heads().iter().filter(|head| head.starts_with("GET /hello")).count();
    assert_eq!(asked, 2, "a request is not sent again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_a_crash_cut_off_is_made_again_from_the_last_checkpoint() {
    let (mut server, web) = (with_guest("rust-http", &["--lease", "1s"]).await, Web::start().await);
    let run = server.trigger("fetch", json!({"authority": web.authority(), "path": "/gated"})).await;
    eventually("the request is there", SOON, async || (web.heads().len() == 1).then_some(())).await;
    server.kill();
    web.open_gate();
    server.start_again().await;
    let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
    assert_eq!((&ended["output"]["text"], web.heads().len()), (&json!("first second"), 2), "{ended:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn javascript_has_its_own_fetch() {
    let (server, web) = (with_guest("js-chain", &["--grace", "0s", "--lease", "1s"]).await, Web::start().await);
    let url = |path: &str| format!("http://{}{path}", web.address);
    let echo = server.trigger("echo", json!({"a": [1, 2]})).await;
    assert_eq!(server.run_with_status(&echo, "COMPLETED", SOON).await["output"], json!({"a": [1, 2]}));
    let get = fetch(&server, json!({"url": url("/hello")})).await;
    assert_eq!(get, json!({"status": 200, "ok": true, "text": "hello", "length": 5, "kind": "5"}));
    let post = fetch(&server, json!({"url": url("/echo"), "method": "POST", "body": "x".repeat(100_000)})).await;
    assert_eq!(post["text"], "100000", "{post:#}");
    let big = fetch(&server, json!({"url": url("/big?3000000")})).await;
    assert_eq!(big["length"], 3_000_000, "{big:#}");

    for is_sleep in [false, true] {
        // Whatever the collector has not dropped by then is over, and does not keep the run.
        let after = json!({"url": url("/hello"), "wait": "after", "ms": 1500, "isSleep": is_sleep});
        let run = server.trigger("fetch", after).await;
        server.run_with_status(&run, "WAITING", SOON).await;
        let ended = server.run_with_status(&run, "COMPLETED", ONCE_COMPILED).await;
        assert_eq!(ended["output"]["text"], "hello", "{ended:#}");
    }
    let middle = json!({"url": url("/gated"), "wait": "middle", "ms": 2000});
    let run = server.trigger("fetch", middle).await;
    eventually("the log says why it is kept", SOON, async || {
        server.logs(&run).await.iter().any(|(_, line)| line.contains("HTTP response that was not read")).then_some(())
    })
    .await;
    assert_eq!(server.run(&run).await["status"], "EXECUTING");
    web.open_gate();
    let ended = server.run_with_status(&run, "COMPLETED", SOON).await;
    assert_eq!(ended["output"]["text"], "first second", "{ended:#}");

    let refused = server.trigger("fetch", json!({"url": "http://10.0.0.1/"})).await;
    let ended = server.finished(&refused, SOON).await;
    assert_eq!(ended["status"], "FAILED", "{ended:#}");
    let lines = server.logs(&refused).await;
    assert!(lines.iter().any(|(_, line)| line.contains("is a private address")), "{lines:?}");
}
