//! Frames of AMQP 0-9-1, in whatever pieces they come: type, channel, size,
//! payload, end.

use std::collections::HashMap;

use super::{header, method};
use crate::bus::body::MAX_BODY;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xCE;
/// Stands for what is left out: the library must see that the broker lives.
const SIGN_OF_LIFE: [u8; 8] = [HEARTBEAT, 0, 0, 0, 0, 0, 0, END];

/// Bytes before the payload.
const HEAD: usize = 7;
/// No method with strings that others chose is larger.
const METHOD_AT_MOST: u64 = 1024;
/// What is kept of a content header: more than a frame may have as a rule.
const HEADER_AT_MOST: usize = 256 * 1024;

/// Follows the frames of one connection. Its memory is bounded, whatever comes.
#[derive(Debug, Default)]
pub(super) struct Frames {
    state: State,
    /// The head of a frame, then as much of its payload and end as is to be looked at.
    held: Vec<u8>,
    /// Bytes of bodies still to be left out, by channel.
    unwanted: HashMap<u16, u64>,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Collects the head.
    #[default]
    Head,
    /// Collects payload and end: so many bytes to come.
    Hold(u64),
    /// Passes payload and end on.
    Pass(u64),
    /// Leaves payload and end out.
    Drop(u64),
    /// This is no AMQP that we know: all that comes passes.
    Blind,
}

impl Frames {
    /// Takes what came and appends what the library may see of it.
    pub(super) fn screen(&mut self, mut input: &[u8], out: &mut Vec<u8>) {
        while !input.is_empty() {
            let taken = match self.state {
                State::Head => self.head(input, out),
                State::Hold(left) => self.hold(input, left, out),
                State::Pass(left) => {
                    let n = part(input, left);
                    out.extend_from_slice(&input[..n]);
                    self.state = remaining(left, n, State::Pass);
                    n
                }
                State::Drop(left) => {
                    let n = part(input, left);
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
                // Whatever content the channel was in the middle of has ended.
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
        let n = part(input, left);
        let room = (HEAD + HEADER_AT_MOST + 1).saturating_sub(self.held.len());
        self.held.extend_from_slice(&input[..n.min(room)]);
        self.state = remaining(left, n, State::Hold);
        if matches!(self.state, State::Head) {
            self.complete(input[n - 1], out);
        }
        n
    }

    /// A frame that was held is there up to its last byte.
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
            // Not even the size of the body: the library refuses it.
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

    /// Gives up: what is held passes, and all that follows.
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

/// How many bytes of the input belong to what is left.
fn part(input: &[u8], left: u64) -> usize {
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
    /// Bytes that are kept for now.
    pub(super) fn held(&self) -> usize {
        self.held.capacity()
    }
}
