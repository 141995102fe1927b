//! Splits the byte stream into frames of AMQP 0-9-1 (type, channel, size, payload, end), however the bytes
//! arrive.

use std::collections::HashMap;

use super::{header, method};
use crate::bus::body::MAX_BODY;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;
/// Replaces a frame that is removed, so that the library sees that the broker is alive.
const SIGN_OF_LIFE: [u8; 8] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, END];

/// Bytes before the payload.
const HEAD: usize = 7;
/// Methods with strings that other people chose are never larger.
const METHOD_AT_MOST: u64 = 1024;
/// Content headers are read up to this size, which is more than a frame normally has.
const HEADER_AT_MOST: usize = 256 * 1024;

/// Filters the frames of one connection. Its memory is bounded for any input.
#[derive(Debug, Default)]
pub(super) struct Frames {
    state: State,
    /// The head of the current frame, and its payload and end as far as they are examined.
    held: Vec<u8>,
    /// For each channel, how many bytes of a body must still be removed.
    unwanted: HashMap<u16, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Collects the head.
    #[default]
    Head,
    /// Collects payload and end; this many bytes are missing.
    Hold(u64),
    /// Passes payload and end on.
    Pass(u64),
    /// Removes payload and end.
    Drop(u64),
    /// The stream is not AMQP as we know it: everything passes unchanged.
    Blind,
}

impl Frames {
    /// Filters `input` and appends the result to `out`.
    pub(super) fn screen(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            let taken = match self.state {
                State::Head => self.head(input, out),
                State::Hold(left) => self.hold(input, left, out),
                State::Pass(left) => {
                    let n = frame_bytes(input, left);
                    out.extend_from_slice(&input[..n]);
                    self.state = remaining(left, n, State::Pass);
                    n
                }
                State::Drop(left) => {
                    let n = frame_bytes(input, left);
                    self.state = remaining(left, n, State::Drop);
                    n
                }
                State::Blind => {
                    out.extend_from_slice(input);
                    return;
                }
            };
            input = &input[taken..];
        }
    }

    fn head(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let n = (HEAD - self.held.len()).min(input.len());
        self.held.extend_from_slice(&input[..n]);
        if !matches!(self.held[0], METHOD | HEADER | BODY | HEARTBEAT) {
            self.blind(out);
            return n;
        }
        let Some(Head { kind, channel, size }) = Head::read(&self.held) else { return n };
        let rest = size + 1;
        self.state = match kind {
            METHOD => {
                // A method ends the content that the channel was sending.
                self.unwanted.remove(&channel);
                if size <= METHOD_AT_MOST { State::Hold(rest) } else { State::Pass(rest) }
            }
            HEADER => State::Hold(rest),
            BODY => match self.unwanted.get_mut(&channel) {
                Some(left) if *left > size => {
                    *left -= size;
                    State::Drop(rest)
                }
                Some(_) => {
                    self.unwanted.remove(&channel);
                    State::Drop(rest)
                }
                None => State::Pass(rest),
            },
            _ => State::Pass(rest),
        };
        match self.state {
            State::Pass(_) => out.append(&mut self.held),
            State::Drop(_) => {
                self.held.clear();
                out.extend_from_slice(&SIGN_OF_LIFE);
            }
            _ => {}
        }
        n
    }

    fn hold(&mut self, input: &[u8], left: u64, out: &mut Vec<u8>) -> usize {
        let n = frame_bytes(input, left);
        let room = (HEAD + HEADER_AT_MOST + 1).saturating_sub(self.held.len());
        self.held.extend_from_slice(&input[..n.min(room)]);
        self.state = remaining(left, n, State::Hold);
        if matches!(self.state, State::Head) {
            self.complete(input[n - 1], out);
        }
        n
    }

    /// Handles a collected frame, of which the last byte has arrived.
    fn complete(&mut self, last: u8, out: &mut Vec<u8>) {
        let Some(Head { kind, channel, size }) = Head::read(&self.held) else { return self.blind(out) };
        if last != END {
            return self.blind(out);
        }
        let whole = HEAD as u64 + size < self.held.len() as u64;
        if whole {
            self.held.pop();
        }
        if kind == METHOD {
            method::repair(&mut self.held[HEAD..]);
            out.append(&mut self.held);
            out.push(END);
            return;
        }
        let Some(content) = header::Content::read(&self.held[HEAD..], whole, MAX_BODY as u64) else {
            // The header ends before the size of the body. The library will refuse it.
            return self.blind(out);
        };
        if let Some(bytes) = content.left_out {
            self.unwanted.insert(channel, bytes);
        }
        let payload = content.encode();
        out.push(HEADER);
        out.extend_from_slice(&channel.to_be_bytes());
        out.extend_from_slice(&u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&payload);
        out.push(END);
        self.held.clear();
        self.held.shrink_to(METHOD_AT_MOST as usize);
    }

    /// Gives up filtering: the collected bytes and all later ones pass unchanged.
    fn blind(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.held);
        self.state = State::Blind;
    }
}

struct Head {
    kind: u8,
    channel: u16,
    size: u64,
}

impl Head {
    fn read(held: &[u8]) -> Option<Self> {
        let [kind, c0, c1, s0, s1, s2, s3, ..] = *held else { return None };
        let size = u64::from(u32::from_be_bytes([s0, s1, s2, s3]));
        Some(Self { kind, channel: u16::from_be_bytes([c0, c1]), size })
    }
}

/// How many bytes of the input belong to the current frame, of which `left` bytes are missing.
fn frame_bytes(input: &[u8], left: u64) -> usize {
    usize::try_from(left).map_or(input.len(), |left| left.min(input.len()))
}

fn remaining(left: u64, n: usize, state: impl FnOnce(u64) -> State) -> State {
    match left - n as u64 {
        0 => State::Head,
        left => state(left),
    }
}

#[cfg(test)]
impl Frames {
    /// Bytes that the buffer occupies.
    pub(super) fn held(&self) -> usize {
        self.held.capacity()
    }
}
