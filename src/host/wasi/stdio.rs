//! Standard output and standard error: bytes in, log lines out.
//!
//! A line is logged when its newline comes, when it grows past [`MAX_LINE_BYTES`], or at the end of the attempt. A line that
//! is still open at a suspension is kept in the snapshot and goes on after it.

use std::{
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::{
    cli::{IsTerminal, StdoutStream},
    p2::{OutputStream, Pollable, StreamResult},
};

use crate::{
    host::Caller,
    model::log::{Level, LogRecord, Source},
    wall_clock,
};

/// Bytes of one line; longer ones are logged in pieces.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Bytes a guest may write at once.
const PERMIT: usize = 64 << 10;

/// One of the two streams, shared by all its handles.
#[derive(Clone)]
pub struct LineLog(Arc<Mutex<Inner>>);

struct Inner {
    source: Source,
    level: Level,
    caller: Option<Arc<dyn Caller>>,
    open_line: Vec<u8>,
    muted: bool,
}

impl LineLog {
    /// Standard output: lines of level `log`. Without a caller everything is dropped.
    pub fn stdout(caller: Option<Arc<dyn Caller>>) -> LineLog {
        LineLog::new(Source::Stdout, Level::Log, caller)
    }

    /// Standard error: lines of level `error`.
    pub fn stderr(caller: Option<Arc<dyn Caller>>) -> LineLog {
        LineLog::new(Source::Stderr, Level::Error, caller)
    }

    fn new(source: Source, level: Level, caller: Option<Arc<dyn Caller>>) -> LineLog {
        LineLog(Arc::new(Mutex::new(Inner { source, level, caller, open_line: Vec::new(), muted: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Drops what is written until [`LineLog::go_on`].
    pub fn mute(&self) {
        self.lock().muted = true;
    }

    /// The open line, to be saved.
    pub fn open_line(&self) -> Vec<u8> {
        self.lock().open_line.clone()
    }

    /// Goes on with a saved open line.
    pub fn go_on(&self, open_line: Vec<u8>) {
        let mut inner = self.lock();
        inner.muted = false;
        inner.open_line = open_line;
        inner.open_line.truncate(MAX_LINE_BYTES);
    }

    /// Logs an open line, at the end of the attempt.
    pub fn finish(&self) {
        let mut inner = self.lock();
        let rest = mem::take(&mut inner.open_line);
        if !rest.is_empty() {
            inner.log(&rest);
        }
    }

    fn write(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.muted || inner.caller.is_none() {
            return;
        }
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            inner.append(piece);
        }
    }
}

impl Inner {
    /// Takes bytes of which only the last can be a newline.
    fn append(&mut self, piece: &[u8]) {
        let (text, is_complete) = match piece.strip_suffix(b"\n") {
            Some(text) => (text, true),
            None => (piece, false),
        };
        self.open_line.extend_from_slice(text);
        while self.open_line.len() > MAX_LINE_BYTES {
            let rest = self.open_line.split_off(character_boundary(&self.open_line, MAX_LINE_BYTES));
            let line = mem::replace(&mut self.open_line, rest);
            self.log(&line);
        }
        if is_complete {
            let line = mem::take(&mut self.open_line);
            self.log(line.strip_suffix(b"\r").unwrap_or(&line));
        }
    }

    fn log(&self, line: &[u8]) {
        let Some(caller) = &self.caller else { return };
        // The store's text columns take no NUL.
        let message = String::from_utf8_lossy(line).replace('\0', "");
        caller.log(LogRecord {
            at: wall_clock::now(),
            level: self.level,
            source: self.source,
            message,
            attributes: serde_json::Value::Null,
            span: None,
        });
    }
}

/// The last place at or before `end` that is not inside a UTF-8 character.
fn character_boundary(bytes: &[u8], end: usize) -> usize {
    let is_inside = |place: &usize| bytes[*place] & 0b1100_0000 == 0b1000_0000;
    (end.saturating_sub(3)..=end).rev().find(|place| !is_inside(place)).unwrap_or(end)
}

impl IsTerminal for LineLog {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for LineLog {
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }

    // Asked for by WASI 0.3 only, which is not linked.
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(tokio::io::sink())
    }
}

#[async_trait]
impl Pollable for LineLog {
    async fn ready(&mut self) {}
}

#[async_trait]
impl OutputStream for LineLog {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        LineLog::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(PERMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::testing::Recorder;

    fn lines(write: impl FnOnce(&LineLog)) -> Vec<String> {
        let recorder = Arc::new(Recorder::default());
        write(&LineLog::stdout(Some(recorder.clone())));
        recorder.messages()
    }

    #[test]
    fn each_newline_ends_a_line_and_the_end_of_the_attempt_ends_the_last() {
        let seen = lines(|log| {
            log.write(b"one\ntw");
            log.write(b"o\r\n\nthree");
            log.finish();
            log.finish();
        });
        assert_eq!(seen, ["one", "two", "", "three"]);
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let text = "é".repeat(MAX_LINE_BYTES);
        let seen = lines(|log| log.write(format!("x{text}\n").as_bytes()));
        assert_eq!(seen.concat(), format!("x{text}"));
        assert!(seen.len() > 1 && seen.iter().all(|line| line.len() <= MAX_LINE_BYTES));
    }

    #[test]
    fn an_open_line_goes_on_after_a_restore_and_start_functions_write_nothing() {
        let before = LineLog::stdout(Some(Arc::new(Recorder::default())));
        before.write(b"half ");
        let saved = before.open_line();
        let seen = lines(|log| {
            log.mute();
            log.write(b"started again\n");
            log.go_on(saved);
            log.write(b"a line\n");
        });
        assert_eq!(seen, ["half a line"]);
    }
}
