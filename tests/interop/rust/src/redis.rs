//! The two commands of Redis that the transport contract needs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use crate::Result;

pub struct Redis {
    stream: BufReader<TcpStream>,
}

impl Redis {
    pub fn connect(address: &str) -> Result<Self> {
        let stream = BufReader::new(TcpStream::connect(address)?);
        Ok(Self { stream })
    }

    fn command(&mut self, words: &[&str]) -> Result<()> {
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text += &format!("${}\r\n{word}\r\n", word.len());
        }
        Ok(self.stream.get_mut().write_all(text.as_bytes())?)
    }

    /// Reads one line of an answer: its kind and its number.
    fn head(&mut self) -> Result<(char, i64)> {
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let line = line.trim_end();
        match line.chars().next() {
            Some(kind @ (':' | '$' | '*')) => Ok((kind, line[1..].parse()?)),
            _ => Err(format!("redis answered {line:?}").into()),
        }
    }

    fn text(&mut self) -> Result<String> {
        let (_, length) = self.head()?;
        let mut bytes = vec![0; usize::try_from(length)? + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(bytes.len() - 2);
        Ok(String::from_utf8(bytes)?)
    }

    pub fn push(&mut self, list: &str, value: &str) -> Result<()> {
        self.command(&["RPUSH", list, value])?;
        self.head().map(|_| ())
    }

    pub fn pop(&mut self, list: &str, seconds: u64) -> Result<String> {
        self.stream
            .get_ref()
            .set_read_timeout(Some(Duration::from_secs(seconds + 1)))?;
        self.command(&["BLPOP", list, &seconds.to_string()])?;
        if self.head()? != ('*', 2) {
            return Err(format!("no listener came within {seconds} s").into());
        }
        self.text()?; // the list's name
        self.text()
    }
}
