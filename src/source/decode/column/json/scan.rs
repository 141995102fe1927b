//! Finds the values within a JSON text. Nothing is copied, and nesting needs no recursion.

/// One value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value<'a> {
    Null,
    /// A number, `true`, `false`, or another word.
    Word(&'a [u8]),
    /// What stands between the quotes, escapes included.
    Text(&'a [u8]),
    /// A list or an object, with its brackets.
    Nested(&'a [u8]),
}

/// Steps through a text. Each step returns `None` where the text is no JSON.
pub(super) struct Scan<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scan<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Calls `take` with each element of the list that the text is.
    pub(super) fn list<E>(
        &mut self,
        mut take: impl FnMut(Value<'a>) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        self.items(b'[', b']', |scan| Some(take(scan.value()?)))
    }

    /// Calls `take` with each name and value of the object that the text is.
    pub(super) fn object<E>(
        &mut self,
        mut take: impl FnMut(&'a [u8], Value<'a>) -> Result<(), E>,
    ) -> Option<Result<(), E>> {
        self.items(b'{', b'}', |scan| {
            let Value::Text(name) = scan.value()? else { return None };
            scan.space();
            scan.eat(b':')?;
            Some(take(name, scan.value()?))
        })
    }

    fn items<E>(
        &mut self,
        open: u8,
        close: u8,
        mut item: impl FnMut(&mut Self) -> Option<Result<(), E>>,
    ) -> Option<Result<(), E>> {
        self.space();
        self.eat(open)?;
        self.space();
        if self.eat(close).is_none() {
            loop {
                if let Err(error) = item(self)? {
                    return Some(Err(error));
                }
                self.space();
                if self.eat(close).is_some() {
                    break;
                }
                self.eat(b',')?;
            }
        }
        self.space();
        (self.at == self.text.len()).then_some(Ok(()))
    }

    fn value(&mut self) -> Option<Value<'a>> {
        self.space();
        let start = self.at;
        match self.peek()? {
            b'"' => self.quoted().map(Value::Text),
            b'[' | b'{' => {
                self.nested()?;
                Some(Value::Nested(&self.text[start..self.at]))
            }
            _ => {
                while self
                    .peek()
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.'))
                {
                    self.at += 1;
                }
                match &self.text[start..self.at] {
                    b"" => None,
                    b"null" => Some(Value::Null),
                    word => Some(Value::Word(word)),
                }
            }
        }
    }

    /// Steps over a text in quotes.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        self.eat(b'"')?;
        let start = self.at;
        loop {
            match self.peek()? {
                b'"' => {
                    self.at += 1;
                    return Some(&self.text[start..self.at - 1]);
                }
                b'\\' => self.at += 2,
                _ => self.at += 1,
            }
        }
    }

    /// Steps over a list or an object. Only brackets are counted; what lies between is read later.
    fn nested(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        loop {
            match self.peek()? {
                b'"' => {
                    self.quoted()?;
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                return Some(());
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        (self.peek() == Some(byte)).then(|| self.at += 1)
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }
}

/// Appends what a text in quotes means.
pub(super) fn unescape(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut rest = text;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\\') {
        out.extend_from_slice(&rest[..end]);
        let (escape, after) = rest[end + 1..].split_first()?;
        rest = after;
        out.push(match escape {
            b'"' | b'\\' | b'/' => *escape,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let mut code = u32::from(unit(&mut rest)?);
                if (0xd800..0xdc00).contains(&code) {
                    rest = rest.strip_prefix(b"\\u")?;
                    let low = u32::from(unit(&mut rest)?).checked_sub(0xdc00).filter(|low| *low < 0x400)?;
                    code = 0x10000 + ((code - 0xd800) << 10) + low;
                }
                out.extend_from_slice(char::from_u32(code)?.encode_utf8(&mut [0; 4]).as_bytes());
                continue;
            }
            _ => return None,
        });
    }
    out.extend_from_slice(rest);
    Some(())
}

/// The four hexadecimal digits that the text begins with.
fn unit(rest: &mut &[u8]) -> Option<u16> {
    let (digits, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    digits.iter().try_fold(0, |code, digit| Some(code << 4 | char::from(*digit).to_digit(16)? as u16))
}
