//! HTTP below the shims: what holds whatever a guest does with its handles.

use std::{sync::Arc, time::Duration};

use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use wasmtime::component::Resource;
use wasmtime_wasi_http::{
    Error, FieldMap, RequestOptions, WasiBody, WasiHttpView,
    p2::{
        bindings::http::types::{ErrorCode, HostFutureIncomingResponse as _, Method, Scheme},
        types::{HostFutureIncomingResponse, HostOutgoingRequest},
    },
};

use super::{
    Egress, HttpLimits, MAX_EXCHANGES_OF_PROCESS, SHARE_OF_ENVIRONMENT, Shares, handle,
    send::{self, code_of},
};
use crate::host::{
    Begin, HostState,
    testing::{Recorder, state},
    wasi::{generated::Kind, ids::Reopen, reopen::warm_reason},
};
use crate::model::{
    egress::{Allowed, EgressPolicy},
    id::EnvironmentId,
};

fn request(state: &mut HostState, authority: &str) -> Resource<HostOutgoingRequest> {
    let request = HostOutgoingRequest {
        method: Method::Get,
        scheme: Some(Scheme::Http),
        authority: Some(authority.into()),
        path_with_query: Some("/".into()),
        headers: FieldMap::default(),
        body: None,
    };
    state.table.push(request).unwrap()
}

/// Sends a request with options, and waits for what becomes of it.
async fn send(state: &mut HostState, authority: &str) -> Result<u16, ErrorCode> {
    let (request, options) = (request(state, authority), state.table.push(RequestOptions::default()).unwrap());
    let _ = state.begin_exchange();
    let future = handle(state, request, Some(options)).map_err(|error| error.downcast().unwrap())?;
    wasmtime_wasi::p2::Pollable::ready(state.table.get_mut(&future).unwrap()).await;
    let answer = state.http().get(Resource::new_borrow(future.rep())).unwrap().unwrap().unwrap();
    state.table.delete(future).unwrap();
    let answer = state.table.delete(answer?).unwrap();
    Ok(answer.status)
}

#[tokio::test]
async fn nothing_is_sent_while_an_instance_is_being_restored() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut state = state(Begin::Restored, scratch.path(), caller);
    let Err(ErrorCode::InternalError(Some(message))) = send(&mut state, "127.0.0.1:1").await else { panic!("it was sent") };
    assert!(message.contains("while an instance is being restored"), "{message}");
    assert!(state.table.is_empty());
}

#[tokio::test]
async fn nothing_of_a_request_stays_behind() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut state = state(Begin::Fresh, scratch.path(), caller.clone());
    // More than may be open at a time.
    for _ in 0..10 {
        assert!(matches!(send(&mut state, "127.0.0.1:1").await, Err(ErrorCode::ConnectionRefused)));
        assert!(matches!(send(&mut state, "127.0.0.2:1").await, Err(ErrorCode::DestinationIpProhibited)));
        assert!(matches!(send(&mut state, "127.0.0.1:").await, Err(ErrorCode::HttpRequestUriInvalid)));
    }
    assert!(state.table.is_empty());
    assert_eq!(state.http.open.len(), 1);
    assert_eq!(caller.messages().len(), 10);
    assert!(caller.messages()[0].contains("\"127.0.0.2\" is a loopback address"), "{}", caller.messages()[0]);
}

#[test]
fn runs_of_one_environment_share_what_no_other_can_take() {
    let egress = Egress::default();
    let (one, other) = (EnvironmentId::new(), EnvironmentId::new());
    let (first, second, third) = (egress.shares(one), egress.shares(one), egress.shares(other));
    let most = MAX_EXCHANGES_OF_PROCESS / SHARE_OF_ENVIRONMENT;
    let _all = first.environment.exchanges.clone().try_acquire_many_owned(most as u32).unwrap();
    assert!(second.environment.exchanges.try_acquire().is_err());
    assert_eq!(third.environment.exchanges.available_permits(), most);
    assert!(second.run.exchanges.try_acquire().is_ok());
    drop((first, second, third));
    assert_eq!(egress.0.of_environments.lock().unwrap().values().filter(|places| places.strong_count() > 0).count(), 0);
    egress.shares(other);
    assert_eq!(egress.0.of_environments.lock().unwrap().len(), 1);
}

/// An answer to a request, as the hooks give it, from a server that says this much and then nothing.
async fn answered(egress: &Egress, shares: &Shares, says: &'static str) -> http::Response<WasiBody> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let request = http::Request::get(format!("http://{}/", listener.local_addr().unwrap()));
    let body = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(says.as_bytes()).await.unwrap();
        while stream.read(&mut [0; 512]).await.is_ok_and(|read| read > 0) {}
    });
    let slot = shares.run.exchanges.clone().try_acquire_owned().unwrap();
    let (request, explain) = (request.body(body).unwrap(), Arc::new(|_| {}));
    let sent = send::send(&egress.0, shares, request, RequestOptions::default(), slot, Arc::default(), explain).await;
    let (answer, connection) = sent.unwrap();
    tokio::spawn(connection);
    answer
}

fn of_this_machine(limits: HttpLimits) -> (Egress, Shares) {
    let egress = Egress::new(EgressPolicy::new(vec![Allowed::Loopback]), limits);
    let shares = egress.shares(EnvironmentId::new());
    (egress, shares)
}

#[tokio::test]
async fn an_answer_without_a_body_keeps_no_place() {
    let (egress, shares) = of_this_machine(HttpLimits::default());
    let all = (egress.0.limits.concurrent, shares.environment.exchanges.available_permits());
    let free = || (shares.run.exchanges.available_permits(), shares.environment.exchanges.available_permits());
    for says in ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"] {
        let answer = answered(&egress, &shares, says).await;
        while free() != all {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        drop(answer);
    }
    let _answer = answered(&egress, &shares, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await;
    assert_eq!(free(), (all.0 - 1, all.1 - 1));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_loses_its_connection() {
    let short = Duration::from_millis(50);
    let (egress, shares) = of_this_machine(HttpLimits { first_byte: short * 4, between_bytes: short, ..HttpLimits::default() });
    let all = shares.environment.exchanges.available_permits();
    let mut answer = answered(&egress, &shares, "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx").await;
    assert!(answer.body_mut().frame().await.unwrap().is_ok());
    while shares.environment.exchanges.available_permits() != all {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let read = answer.body_mut().frame().await.unwrap();
    assert!(matches!(read, Err(Error::ConnectionReadTimeout)), "{read:?}");
}

#[tokio::test]
async fn what_was_in_progress_at_a_crash_reads_as_cut_off() {
    let (scratch, caller) = (tempfile::tempdir().unwrap(), Arc::new(Recorder::default()));
    let mut before = state(Begin::Fresh, scratch.path(), caller.clone());
    let future = before.table.push(HostFutureIncomingResponse::Consumed).unwrap();
    let id = before.ids.put(future.rep(), Kind::FutureIncomingResponse, Reopen::Never).unwrap();
    assert!(warm_reason(&before).unwrap().contains("cannot be saved"));
    let saved = before.save().await;

    let mut after = state(Begin::Restored, scratch.path(), caller);
    after.rebuild(&saved).await.unwrap();
    let place = after.ids.borrow(id, Kind::FutureIncomingResponse).unwrap();
    let answer = after.http().get(Resource::new_borrow(place)).unwrap().unwrap().unwrap();
    assert!(matches!(answer, Err(ErrorCode::ConnectionTerminated)), "{answer:?}");
}

#[tokio::test]
async fn a_connection_that_ends_too_early_is_told_from_one_that_makes_no_sense() {
    for (answer, is_expected) in [
        ("", (|code| matches!(code, ErrorCode::HttpResponseIncomplete)) as fn(&ErrorCode) -> bool),
        ("HTTP/1.1 200 O", |code| matches!(code, ErrorCode::HttpResponseIncomplete)),
        ("SSH-2.0-OpenSSH_9.2\r\n", |code| matches!(code, ErrorCode::HttpProtocolError)),
    ] {
        let (client, mut server) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            assert_ne!(server.read(&mut [0; 512]).await.unwrap(), 0);
            server.write_all(answer.as_bytes()).await.unwrap();
        });
        let io = wasmtime_wasi_http::io::TokioIo::new(client);
        let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
        tokio::spawn(connection);
        let request = http::Request::new(http_body_util::Empty::<bytes::Bytes>::new());
        let code = code_of(&sender.send_request(request).await.unwrap_err());
        assert!(is_expected(&code), "{answer:?}: {code:?}");
    }
}
