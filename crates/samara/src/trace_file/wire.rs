//! Integers and strings as bytes: LEB128, and lengths that are checked before they are trusted.

/// Appends values to a block.
#[derive(Debug, Default)]
pub(super) struct Sink {
    pub(super) bytes: Vec<u8>,
}

impl Sink {
    pub(super) fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn number(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    pub(super) fn numbers(&mut self, values: &[u64]) {
        for &value in values {
            self.number(value);
        }
    }

    /// Zigzag, so that errno values are short.
    pub(super) fn signed(&mut self, value: i64) {
        self.number(((value << 1) ^ (value >> 63)).cast_unsigned());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.blob(text.as_bytes());
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.bytes.extend_from_slice(bytes);
    }
}

/// Takes values from a block. Every method gives the reason if the bytes make no sense.
#[derive(Debug)]
pub(super) struct Source<'a> {
    pub(super) bytes: &'a [u8],
}

pub(super) type Wired<T> = Result<T, &'static str>;

impl<'a> Source<'a> {
    pub(super) fn byte(&mut self) -> Wired<u8> {
        let (&first, rest) = self.bytes.split_first().ok_or("a record is cut")?;
        self.bytes = rest;
        Ok(first)
    }

    pub(super) fn number(&mut self) -> Wired<u64> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("a number is too long");
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err("a number is too long")
    }

    pub(super) fn numbers<const N: usize>(&mut self) -> Wired<[u64; N]> {
        let mut values = [0; N];
        for value in &mut values {
            *value = self.number()?;
        }
        Ok(values)
    }

    pub(super) fn small(&mut self) -> Wired<u32> {
        u32::try_from(self.number()?).map_err(|_| "a number is out of range")
    }

    pub(super) fn signed(&mut self) -> Wired<i64> {
        let value = self.number()?;
        Ok((value >> 1).cast_signed() ^ -((value & 1).cast_signed()))
    }

    pub(super) fn text(&mut self) -> Wired<&'a str> {
        std::str::from_utf8(self.blob()?).map_err(|_| "a text is not UTF-8")
    }

    pub(super) fn blob(&mut self) -> Wired<&'a [u8]> {
        let length = usize::try_from(self.number()?).map_err(|_| "a text is too long")?;
        let (blob, rest) = self.bytes.split_at_checked(length).ok_or("a text is cut")?;
        self.bytes = rest;
        Ok(blob)
    }

    /// A number of things that follow, each at least one byte long.
    pub(super) fn count(&mut self) -> Wired<usize> {
        let count = usize::try_from(self.number()?).map_err(|_| "a count is too large")?;
        if count > self.bytes.len() {
            Err("a count is too large")
        } else {
            Ok(count)
        }
    }
}
