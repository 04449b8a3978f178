//! MySQL packets: their frames on a stream, and the few encodings inside them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncBufRead, AsyncRead, AsyncWrite, BufReader, ReadHalf, WriteHalf};
use tokio::time::{Sleep, sleep};

use super::error::Fault;

/// The longest payload of one frame; a frame of this length is continued by the next one.
pub const FRAME: usize = 0xff_ffff;

/// Output is handed to the socket when this much has gathered, or on a flush.
const OUTPUT_BUFFER: usize = 64 << 10;

/// What carries a connection: TCP, or TLS over it.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One message of a client, its frames joined.
#[derive(Debug, PartialEq)]
pub struct Packet {
    /// The number of its last frame.
    pub sequence: u8,
    /// Its content; empty if it was too large.
    pub payload: Vec<u8>,
    /// It was longer than the limit, and was read to its end without being kept.
    pub too_large: bool,
}

/// Joins frames to packets. Memory grows with what arrived, not with what a header announces.
pub struct PacketReader {
    stream: BufReader<ReadHalf<Box<dyn Stream>>>,
    header: [u8; 4],
    header_len: usize,
    /// Bytes of the current frame still to come.
    left: usize,
    /// Whether a frame of the current packet has been seen.
    begun: bool,
    payload: Vec<u8>,
    too_large: bool,
}

impl PacketReader {
    /// Reads packets from a stream that stands between two packets.
    pub fn new(stream: ReadHalf<Box<dyn Stream>>) -> Self {
        Self {
            stream: BufReader::new(stream),
            header: [0; 4],
            header_len: 0,
            left: 0,
            begun: false,
            payload: Vec::new(),
            too_large: false,
        }
    }

    /// The next packet, `None` at an end between two packets. Keeps its place when it is not ready.
    pub fn poll_packet(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<io::Result<Option<Packet>>> {
        loop {
            let header_done = self.header_len == self.header.len();
            if header_done && self.left == 0 {
                self.header_len = 0;
                let continued = self.header[..3] == [0xff; 3];
                self.begun = continued;
                if !continued {
                    let too_large = std::mem::take(&mut self.too_large);
                    let payload = std::mem::take(&mut self.payload);
                    return Poll::Ready(Ok(Some(Packet { sequence: self.header[3], payload, too_large })));
                }
                continue;
            }
            let available = ready!(Pin::new(&mut self.stream).poll_fill_buf(cx))?;
            if available.is_empty() {
                if !self.begun && self.header_len == 0 {
                    return Poll::Ready(Ok(None));
                }
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            let used = if header_done {
                let used = available.len().min(self.left);
                self.too_large |= self.payload.len() + used > limit;
                if self.too_large {
                    self.payload = Vec::new();
                } else {
                    self.payload.extend_from_slice(&available[..used]);
                }
                self.left -= used;
                used
            } else {
                let used = available.len().min(4 - self.header_len);
                self.header[self.header_len..self.header_len + used].copy_from_slice(&available[..used]);
                self.header_len += used;
                if self.header_len == 4 {
                    self.left = u32::from_le_bytes([self.header[0], self.header[1], self.header[2], 0]) as usize;
                }
                used
            };
            Pin::new(&mut self.stream).consume(used);
        }
    }
}

/// Frames packets into a buffer and writes it.
pub struct PacketWriter {
    stream: WriteHalf<Box<dyn Stream>>,
    out: BytesMut,
    /// How long the client may read nothing while there is something to read.
    pub patience: Duration,
    /// When that will have been so; set while the client is waited for.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl PacketWriter {
    /// Writes packets to a stream.
    pub fn new(stream: WriteHalf<Box<dyn Stream>>) -> Self {
        Self { stream, out: BytesMut::new(), patience: Duration::MAX, stalled: None }
    }

    /// Adds one frame, as it is.
    pub fn frame(&mut self, sequence: u8, payload: &[u8]) {
        debug_assert!(payload.len() <= FRAME);
        self.out.reserve(4 + payload.len());
        self.out.extend_from_slice(&(payload.len() as u32).to_le_bytes()[..3]);
        self.out.extend_from_slice(&[sequence]);
        self.out.extend_from_slice(payload);
    }

    /// Whether enough has gathered that it should go out before more is added.
    pub fn is_full(&self) -> bool {
        self.out.len() >= OUTPUT_BUFFER
    }

    /// Hands all that has gathered to the socket. Fails if the client reads nothing for too long.
    pub fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.out.has_remaining() {
            let Poll::Ready(written) = Pin::new(&mut self.stream).poll_write(cx, &self.out) else {
                return self.poll_stall(cx);
            };
            let written = written?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.stalled = None;
            self.out.advance(written);
        }
        // A row of many megabytes must not keep its buffer for the life of the connection.
        if self.out.capacity() > 2 * OUTPUT_BUFFER {
            self.out = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    /// Drains, and flushes the stream below.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        match Pin::new(&mut self.stream).poll_flush(cx) {
            Poll::Pending => self.poll_stall(cx),
            flushed => {
                self.stalled = None;
                flushed
            }
        }
    }

    /// Pending while the client may still take its time, then an error.
    fn poll_stall(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads nothing: see net_write_timeout")))
    }
}

/// Both directions of a connection, for the exchanges that are one packet each.
pub struct Channel {
    /// What the client sends.
    pub input: PacketReader,
    /// What the server sends.
    pub output: PacketWriter,
    /// The number of the next packet to send.
    pub sequence: u8,
}

impl Channel {
    /// A connection on which nothing was said yet.
    pub fn new(stream: Box<dyn Stream>) -> Self {
        let (read, write) = tokio::io::split(stream);
        Self { input: PacketReader::new(read), output: PacketWriter::new(write), sequence: 0 }
    }

    /// The stream below, to speak TLS on it. What has arrived already belongs to it.
    pub fn into_stream(self) -> Box<dyn Stream> {
        Box::new(tokio::io::join(self.input.stream, self.output.stream))
    }

    /// The next packet of the client; an end is an error.
    pub async fn read(&mut self, limit: usize) -> io::Result<Packet> {
        let packet = std::future::poll_fn(|cx| self.input.poll_packet(cx, limit)).await?;
        let packet = packet.ok_or(io::ErrorKind::UnexpectedEof)?;
        self.sequence = packet.sequence.wrapping_add(1);
        Ok(packet)
    }

    /// Sends one packet.
    pub async fn write(&mut self, payload: &[u8]) -> io::Result<()> {
        self.output.frame(self.sequence, payload);
        self.sequence = self.sequence.wrapping_add(1);
        std::future::poll_fn(|cx| self.output.poll_flush(cx)).await
    }

    /// Sends an error.
    pub async fn fail(&mut self, fault: &Fault) -> io::Result<()> {
        self.write(&fault.packet()).await
    }
}

/// Reads the fields of a payload; each answers `None` where the payload is too short.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// A number of bytes.
    pub fn bytes(&mut self, len: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    /// An array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    /// A length-encoded number; NULL is `None` too.
    pub fn lenenc(&mut self) -> Option<u64> {
        match self.u8()? {
            0xfb | 0xff => None,
            0xfc => self.u16().map(u64::from),
            0xfd => self.array::<3>().map(|b| u32::from_le_bytes([b[0], b[1], b[2], 0]).into()),
            0xfe => self.array().map(u64::from_le_bytes),
            small => Some(small.into()),
        }
    }

    /// Bytes after their length-encoded length.
    pub fn lenenc_bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.lenenc()?;
        self.bytes(usize::try_from(len).ok()?)
    }

    /// Bytes up to a NUL, which is taken too.
    pub fn until_nul(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().position(|byte| *byte == 0)?;
        let bytes = self.bytes(len);
        self.bytes(1)?;
        bytes
    }
}

/// Appends a length-encoded number.
pub fn put_lenenc(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0xfa => out.push(number as u8),
        0xfb..=0xffff => {
            out.push(0xfc);
            out.extend_from_slice(&(number as u16).to_le_bytes());
        }
        0x1_0000..=0xff_ffff => {
            out.push(0xfd);
            out.extend_from_slice(&(number as u32).to_le_bytes()[..3]);
        }
        _ => {
            out.push(0xfe);
            out.extend_from_slice(&number.to_le_bytes());
        }
    }
}

/// Appends bytes after their length.
pub fn put_lenenc_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_lenenc(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// An OK packet.
pub fn ok_packet(affected: u64, last_insert_id: u64, status: u16, warnings: u16, info: &[u8]) -> Vec<u8> {
    let mut packet = vec![0];
    put_lenenc(&mut packet, affected);
    put_lenenc(&mut packet, last_insert_id);
    packet.extend_from_slice(&status.to_le_bytes());
    packet.extend_from_slice(&warnings.to_le_bytes());
    if !info.is_empty() {
        put_lenenc_bytes(&mut packet, info);
    }
    packet
}
