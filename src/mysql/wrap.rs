//! Keeps the faults of `opensrv-mysql` 0.7 from clients: two stream wrappers around it, and a desk between them.
//!
//! The crate runs the command phase: it dispatches commands to the shim, and writes results, prepared statements and
//! errors. Left alone it answers OK to commands it does not know, panics on malformed ones, knows no limits, takes
//! `USE` and `SELECT @@max_allowed_packet` for itself, reports autocommit as off and columns without type details, has
//! no error numbers but MySQL's, and ends packets of 16 MiB - 1 wrongly. So:
//!
//! * [`CommandReader`] reads a client's packet, checks it, leaves its content on the [`Desk`] for the shim, and hands the
//!   crate a bare command of the right kind: nothing that a client writes reaches the crate's parser;
//! * [`ReplyWriter`] takes each packet that the crate writes, and sends it, or what the shim left on the desk in its
//!   place, with the right number, status flags and framing;
//! * COM_CHANGE_USER and COM_RESET_CONNECTION end the crate's run; the server does them and begins another run.
//!
//! The crate's own connection phase is played to it from memory: see [`handshake`](super::handshake).

use std::collections::{HashMap, VecDeque};
use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::error::Fault;
use super::packet::{FRAME, Fields, Packet, PacketReader, PacketWriter, ok_packet};
use crate::sql;
use crate::types::Datum;

/// The most bytes of one command, and of the parameters that a statement collects. Clients are told the same by
/// `@@max_allowed_packet`.
pub const MAX_PACKET: usize = 64 << 20;

/// Status flag: each statement commits by itself.
pub const AUTOCOMMIT: u16 = 2;

const COM_QUIT: u8 = 0x01;
const COM_INIT_DB: u8 = 0x02;
const COM_QUERY: u8 = 0x03;
const COM_FIELD_LIST: u8 = 0x04;
const COM_STATISTICS: u8 = 0x09;
const COM_PROCESS_KILL: u8 = 0x0c;
const COM_PING: u8 = 0x0e;
const COM_CHANGE_USER: u8 = 0x11;
const COM_STMT_PREPARE: u8 = 0x16;
const COM_STMT_EXECUTE: u8 = 0x17;
const COM_STMT_SEND_LONG_DATA: u8 = 0x18;
const COM_STMT_CLOSE: u8 = 0x19;
const COM_STMT_RESET: u8 = 0x1a;
const COM_SET_OPTION: u8 = 0x1b;
const COM_STMT_FETCH: u8 = 0x1c;
const COM_RESET_CONNECTION: u8 = 0x1f;

/// A command's content, checked.
#[derive(Debug, PartialEq)]
pub enum Command {
    /// COM_QUERY.
    Query(String),
    /// COM_INIT_DB.
    InitDb(String),
    /// COM_FIELD_LIST: a table, and a pattern of column names.
    FieldList(String, String),
    /// COM_STMT_PREPARE.
    Prepare(String),
    /// COM_STMT_EXECUTE of a statement that exists.
    Execute(Vec<Datum>),
    /// COM_STATISTICS.
    Statistics,
    /// COM_SET_OPTION: whether several statements in one query are taken from now on.
    MultiStatements(bool),
    /// COM_PROCESS_KILL.
    Kill(u32),
    /// COM_STMT_RESET, done by the reader.
    Reset,
    /// Whatever cannot be done; the client is told why.
    Refuse(Fault),
}

/// Why the crate's run ended, other than that the client is gone.
#[derive(Debug, PartialEq)]
pub enum Leave {
    /// COM_CHANGE_USER, with its content.
    ChangeUser(Vec<u8>),
    /// COM_RESET_CONNECTION.
    Reset,
    /// The server shuts down.
    Shutdown,
    /// The client said nothing for as long as `wait_timeout` allows.
    Silent,
}

/// What becomes of a packet that the crate writes.
#[derive(Debug)]
enum Edit {
    /// It ends a result or is an error: its status flags are completed.
    End,
    /// It is sent as it is.
    Keep,
    /// This is sent instead.
    Replace(Vec<u8>),
    /// It is the EOF behind column definitions: rows follow.
    Rows,
    /// It is not sent.
    Drop,
}

/// A prepared statement, as far as its packets go.
#[derive(Debug, Default)]
struct Prepared {
    params: usize,
    /// Types and unsigned flags of the last execution that sent some.
    types: Vec<(u8, bool)>,
    long_data: HashMap<u16, Vec<u8>>,
    /// COM_STMT_SEND_LONG_DATA has no answer, so what is wrong with it is said at the next execution.
    long_data_fault: Option<Fault>,
}

/// What the wrappers need to know of a session.
#[derive(Debug, Clone, Copy, Default)]
pub struct Shown {
    /// The status flags of every OK and EOF.
    pub status: u16,
    /// How long the client may be silent.
    pub wait_timeout: Duration,
    /// How long it may leave unread what it is sent.
    pub write_timeout: Duration,
}

#[derive(Debug, Default)]
struct State {
    command: Option<Command>,
    leave: Option<Leave>,
    statements: HashMap<u32, Prepared>,
    edits: VecDeque<Edit>,
    shown: Shown,
    /// How many warnings the next OK, or end of rows, tells of.
    warnings: u16,
    sequence: u8,
    in_rows: bool,
    /// The last frame was full, so the packet may go on.
    open_frame: bool,
    /// A packet ended with a full frame and lacks its empty last one.
    owes_frame: bool,
}

/// Where reader, shim and writer of a connection leave things for one another.
#[derive(Debug, Default)]
pub struct Desk(Mutex<State>);

impl Desk {
    /// Clears it for another run of a session that shows this.
    pub fn begin(&self, shown: Shown) {
        *self.lock() = State { shown, ..State::default() };
    }

    /// The content of the command that the crate is at.
    pub fn take_command(&self) -> Option<Command> {
        self.lock().command.take()
    }

    /// Why the run ended.
    pub fn take_leave(&self) -> Option<Leave> {
        self.lock().leave.take()
    }

    /// The number of the next packet to send.
    pub fn sequence(&self) -> u8 {
        self.lock().sequence
    }

    /// The session shows this from now on.
    pub fn set_session(&self, shown: Shown) {
        self.lock().shown = shown;
    }

    /// The next OK, or end of rows, tells of so many warnings: the crate leaves them out.
    pub fn set_warnings(&self, count: usize) {
        self.lock().warnings = u16::try_from(count).unwrap_or(u16::MAX);
    }

    /// The next packet but one if `behind_end`, where the crate first writes the end of the result before, else the
    /// next one, is sent as this.
    pub fn replace_next(&self, behind_end: bool, packet: Vec<u8>) {
        let mut state = self.lock();
        if behind_end {
            state.edits.push_back(Edit::End);
        }
        state.edits.push_back(Edit::Replace(packet));
    }

    /// The crate is about to write a column count, these column definitions and rows; `behind_end` as above.
    pub fn announce_rows(&self, behind_end: bool, definitions: Vec<Vec<u8>>) {
        let mut state = self.lock();
        if behind_end {
            state.edits.push_back(Edit::End);
        }
        state.edits.push_back(Edit::Keep);
        state.edits.extend(definitions.into_iter().map(Edit::Replace));
        state.edits.push_back(Edit::Rows);
    }

    /// The crate is about to write the answer to a prepare: its head, then the parameters and these columns, with an EOF
    /// behind either if there are any.
    pub fn announce_prepared(&self, id: u32, params: usize, definitions: Vec<Vec<u8>>) {
        let mut state = self.lock();
        state.statements.insert(id, Prepared { params, ..Prepared::default() });
        state.edits.push_back(Edit::Keep);
        if !definitions.is_empty() {
            if params > 0 {
                state.edits.extend((0..params).map(|_| Edit::Keep).chain([Edit::End]));
            }
            state.edits.extend(definitions.into_iter().map(Edit::Replace));
        }
    }

    /// The crate is about to write a result without rows of which only the column definitions are wanted.
    pub fn announce_fields(&self, definitions: Vec<Vec<u8>>) {
        let mut state = self.lock();
        state.edits.push_back(Edit::Drop);
        state.edits.extend(definitions.into_iter().map(Edit::Replace));
        state.edits.extend([Edit::End, Edit::Drop]);
    }

    /// A row has been written to its end.
    pub fn end_row(&self) {
        let mut state = self.lock();
        if std::mem::take(&mut state.open_frame) {
            state.owes_frame = true;
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes a packet of the client, and answers with the bare command for the crate, if there is one.
    fn receive(&mut self, packet: Packet) -> Option<Vec<u8>> {
        self.sequence = packet.sequence.wrapping_add(1);
        if packet.too_large {
            return self.ask(COM_QUERY, Command::Refuse(Fault::too_large()));
        }
        let Some((code, content)) = packet.payload.split_first() else {
            return self.ask(COM_QUERY, Command::Refuse(Fault::unknown_command()));
        };
        let mut fields = Fields(content);
        match *code {
            COM_QUIT | COM_PING => Some(vec![*code]),
            COM_INIT_DB => self.ask_text(*code, content, "the database name", Command::InitDb),
            COM_QUERY => self.ask_text(*code, content, "the query", Command::Query),
            COM_FIELD_LIST => {
                let (table, pattern) =
                    content.split_at(content.iter().position(|byte| *byte == 0).unwrap_or(content.len()));
                let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec());
                let command = match (text(table), text(pattern.strip_prefix(b"\0").unwrap_or(b""))) {
                    (Ok(table), Ok(pattern)) => Command::FieldList(table, pattern),
                    _ => Command::Refuse(Fault::not_utf8("the table name")),
                };
                self.ask(COM_QUERY, command)
            }
            COM_STMT_PREPARE => self.ask_text(*code, content, "the query", Command::Prepare),
            COM_STMT_EXECUTE => {
                let id = fields.u32();
                let parsed = self.parse_execute(id, fields);
                match (id, parsed) {
                    (Some(id), Ok(params)) => {
                        self.command = Some(Command::Execute(params));
                        let mut bare = vec![COM_STMT_EXECUTE];
                        bare.extend_from_slice(&id.to_le_bytes());
                        bare.extend_from_slice(&[0, 1, 0, 0, 0]);
                        Some(bare)
                    }
                    (_, Ok(_)) => self.ask(COM_QUERY, Command::Refuse(Fault::malformed())),
                    (_, Err(fault)) => self.ask(COM_QUERY, Command::Refuse(fault)),
                }
            }
            COM_STMT_SEND_LONG_DATA => {
                self.take_long_data(fields);
                None
            }
            COM_STMT_CLOSE => {
                let id = fields.u32()?;
                self.statements.remove(&id)?;
                let mut bare = vec![COM_STMT_CLOSE];
                bare.extend_from_slice(&id.to_le_bytes());
                Some(bare)
            }
            COM_STMT_RESET => {
                let command = match fields.u32() {
                    None => Command::Refuse(Fault::malformed()),
                    Some(id) => match self.statements.get_mut(&id) {
                        None => Command::Refuse(Fault::unknown_statement(id, "COM_STMT_RESET")),
                        Some(statement) => {
                            statement.long_data.clear();
                            statement.long_data_fault = None;
                            Command::Reset
                        }
                    },
                };
                self.ask(COM_QUERY, command)
            }
            COM_STMT_FETCH => {
                let fault = match fields.u32() {
                    None => Fault::malformed(),
                    Some(id) if !self.statements.contains_key(&id) => Fault::unknown_statement(id, "COM_STMT_FETCH"),
                    Some(id) => Fault::new(1421, "HY000", format!("The statement ({id}) has no open cursor.")),
                };
                self.ask(COM_QUERY, Command::Refuse(fault))
            }
            COM_STATISTICS => self.ask(COM_QUERY, Command::Statistics),
            COM_PROCESS_KILL => {
                let command = fields.u32().map_or_else(|| Command::Refuse(Fault::malformed()), Command::Kill);
                self.ask(COM_QUERY, command)
            }
            COM_SET_OPTION => {
                let command = match fields.u16() {
                    Some(0) => Command::MultiStatements(true),
                    Some(1) => Command::MultiStatements(false),
                    _ => Command::Refuse(Fault::unknown_command()),
                };
                self.ask(COM_QUERY, command)
            }
            COM_CHANGE_USER => {
                self.leave = Some(Leave::ChangeUser(content.to_vec()));
                Some(vec![COM_QUIT])
            }
            COM_RESET_CONNECTION => {
                self.leave = Some(Leave::Reset);
                Some(vec![COM_QUIT])
            }
            _ => self.ask(COM_QUERY, Command::Refuse(Fault::unknown_command())),
        }
    }

    fn ask(&mut self, code: u8, command: Command) -> Option<Vec<u8>> {
        self.command = Some(command);
        Some(vec![code])
    }

    fn ask_text(
        &mut self,
        code: u8,
        content: &[u8],
        what: &str,
        command: impl FnOnce(String) -> Command,
    ) -> Option<Vec<u8>> {
        let text = match std::str::from_utf8(content) {
            Ok(text) => Some(text.to_owned()),
            Err(_) if code == COM_INIT_DB => None,
            Err(_) => sql::text_with_bytes(content),
        };
        // Prepare and init have answers of their own, but an error is the same everywhere.
        match text {
            Some(text) => self.ask(code, command(text)),
            None => self.ask(COM_QUERY, Command::Refuse(Fault::not_utf8(what))),
        }
    }

    fn parse_execute(&mut self, id: Option<u32>, mut fields: Fields<'_>) -> Result<Vec<Datum>, Fault> {
        let id = id.ok_or_else(Fault::malformed)?;
        let statement = self.statements.get_mut(&id).ok_or_else(|| Fault::unknown_statement(id, "COM_STMT_EXECUTE"))?;
        // Cursor flags and a count that is always 1.
        fields.bytes(5).ok_or_else(Fault::malformed)?;
        if let Some(fault) = statement.long_data_fault.take() {
            statement.long_data.clear();
            return Err(fault);
        }
        let params = statement.parse_params(fields);
        statement.long_data.clear();
        params
    }

    fn take_long_data(&mut self, mut fields: Fields<'_>) {
        // A session may have thousands of statements.
        let held: usize =
            self.statements.values().flat_map(|statement| statement.long_data.values()).map(Vec::len).sum();
        let Some(statement) = fields.u32().and_then(|id| self.statements.get_mut(&id)) else {
            return;
        };
        let Some(param) = fields.u16().filter(|param| usize::from(*param) < statement.params) else {
            statement.long_data_fault =
                Some(Fault::new(1210, "HY000", "Incorrect arguments to COM_STMT_SEND_LONG_DATA"));
            return;
        };
        if held + fields.0.len() > MAX_PACKET {
            statement.long_data_fault = Some(Fault::too_large());
            return;
        }
        statement.long_data.entry(param).or_default().extend_from_slice(fields.0);
    }

    /// What is sent for a packet of the crate.
    fn reply(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        match self.edits.pop_front() {
            Some(Edit::Replace(packet)) => {
                if packet.first() == Some(&0xff) {
                    (self.in_rows, self.warnings) = (false, 0);
                }
                Some(packet)
            }
            Some(Edit::Keep | Edit::Drop) => None,
            Some(Edit::Rows) => {
                let eof = self.eof(payload);
                self.in_rows = true;
                eof
            }
            Some(Edit::End) | None => match payload.first() {
                Some(0xfe) if payload.len() == 5 => {
                    let warnings =
                        if std::mem::take(&mut self.in_rows) { std::mem::take(&mut self.warnings) } else { 0 };
                    let mut eof = self.eof(payload)?;
                    eof[1..3].copy_from_slice(&warnings.to_le_bytes());
                    Some(eof)
                }
                Some(0x00) if !self.in_rows => {
                    let ok = self.ok(payload);
                    self.warnings = 0;
                    ok
                }
                _ => None,
            },
        }
    }

    fn eof(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let [_, w0, w1, s0, s1] = *<&[u8; 5]>::try_from(payload).ok()?;
        let [s0, s1] = (u16::from_le_bytes([s0, s1]) | self.shown.status).to_le_bytes();
        Some(vec![0xfe, w0, w1, s0, s1])
    }

    /// The crate leaves out the warnings, and the length of the text at the end.
    fn ok(&self, payload: &[u8]) -> Option<Vec<u8>> {
        let mut fields = Fields(&payload[1..]);
        let affected = fields.lenenc()?;
        let last_insert_id = fields.lenenc()?;
        let status = fields.u16()?;
        fields.u16()?;
        Some(ok_packet(affected, last_insert_id, status | self.shown.status, self.warnings, fields.0))
    }
}

impl Prepared {
    fn parse_params(&mut self, mut fields: Fields<'_>) -> Result<Vec<Datum>, Fault> {
        if self.params == 0 {
            return Ok(Vec::new());
        }
        let nulls = fields.bytes(self.params.div_ceil(8)).ok_or_else(Fault::malformed)?;
        if fields.u8().ok_or_else(Fault::malformed)? != 0 {
            let types = fields.bytes(2 * self.params).ok_or_else(Fault::malformed)?;
            self.types = types.chunks_exact(2).map(|pair| (pair[0], pair[1] & 0x80 != 0)).collect();
        }
        if self.types.len() != self.params {
            return Err(Fault::malformed());
        }
        let mut params = Vec::with_capacity(self.params);
        for (i, (ty, unsigned)) in self.types.iter().enumerate() {
            let long = u16::try_from(i).ok().and_then(|i| self.long_data.get(&i));
            params.push(if let Some(bytes) = long {
                text_param(bytes)
            } else if nulls[i / 8] & (1 << (i % 8)) != 0 {
                Datum::Null
            } else {
                param(&mut fields, *ty, *unsigned, i)?
            });
        }
        Ok(params)
    }
}

/// One value of COM_STMT_EXECUTE.
fn param(fields: &mut Fields<'_>, ty: u8, unsigned: bool, i: usize) -> Result<Datum, Fault> {
    let int = |value: Option<i64>| value.map(Datum::Int).ok_or_else(Fault::malformed);
    match ty {
        0x06 => Ok(Datum::Null),
        0x01 => int(fields.u8().map(|v| if unsigned { v.into() } else { (v as i8).into() })),
        0x02 | 0x0d => int(fields.u16().map(|v| if unsigned { v.into() } else { (v as i16).into() })),
        0x03 | 0x09 => int(fields.u32().map(|v| if unsigned { v.into() } else { (v as i32).into() })),
        0x08 => match fields.array().map(i64::from_le_bytes) {
            Some(value) if unsigned && value < 0 => Ok(Datum::Exact((value as u64).to_string())),
            value => int(value),
        },
        // The shortest text of an f32 is what was meant, and not the digits of its f64.
        0x04 => {
            let value = fields.array().map(f32::from_le_bytes).ok_or_else(Fault::malformed)?;
            Ok(Datum::Double(value.to_string().parse().unwrap_or(value.into())))
        }
        0x05 => fields.array().map(f64::from_le_bytes).map(Datum::Double).ok_or_else(Fault::malformed),
        0x07 | 0x0a | 0x0c => date_param(fields, ty == 0x0a).ok_or_else(Fault::malformed),
        0x0b => time_param(fields).ok_or_else(Fault::malformed),
        0x00 | 0xf6 => {
            let text = std::str::from_utf8(fields.lenenc_bytes().ok_or_else(Fault::malformed)?).unwrap_or("?");
            Datum::exact(text).ok_or_else(|| {
                Fault::new(1366, "HY000", format!("Incorrect DECIMAL value: '{text}' for parameter {}", i + 1))
            })
        }
        0x0f | 0x10 | 0xf5 | 0xf7..=0xff => Ok(text_param(fields.lenenc_bytes().ok_or_else(Fault::malformed)?)),
        _ => {
            Err(Fault::new(1210, "HY000", format!("Incorrect arguments to EXECUTE: parameter {} has type {ty}", i + 1)))
        }
    }
}

/// Drivers send texts as BLOBs and bytes as texts, so what can be a text is one: a VARBINARY takes it too.
fn text_param(bytes: &[u8]) -> Datum {
    match std::str::from_utf8(bytes) {
        Ok(text) => Datum::Text(text.to_owned()),
        Err(_) => Datum::Bytes(bytes.to_owned()),
    }
}

/// DATE, DATETIME and TIMESTAMP: as much of it as is not zero.
fn date_param(fields: &mut Fields<'_>, date_only: bool) -> Option<Datum> {
    let len = fields.u8()?;
    let mut rest = Fields(fields.bytes(len.into())?);
    if !matches!(len, 0 | 4 | 7 | 11) {
        return None;
    }
    let (year, month, day) = if len == 0 { (0, 0, 0) } else { (rest.u16()?, rest.u8()?, rest.u8()?) };
    let mut text = format!("{year:04}-{month:02}-{day:02}");
    if !date_only || len > 4 {
        let (hour, minute, second) = if len > 4 { (rest.u8()?, rest.u8()?, rest.u8()?) } else { (0, 0, 0) };
        text.push_str(&format!(" {hour:02}:{minute:02}:{second:02}"));
    }
    if len == 11 {
        text.push_str(&format!(".{:06}", rest.u32()?));
    }
    Some(Datum::Text(text))
}

fn time_param(fields: &mut Fields<'_>) -> Option<Datum> {
    let len = fields.u8()?;
    let mut rest = Fields(fields.bytes(len.into())?);
    if len == 0 {
        return Some(Datum::Text("00:00:00".to_owned()));
    }
    if !matches!(len, 8 | 12) {
        return None;
    }
    let sign = if rest.u8()? == 0 { "" } else { "-" };
    let days = u64::from(rest.u32()?);
    let (hour, minute, second) = (rest.u8()?, rest.u8()?, rest.u8()?);
    let mut text = format!("{sign}{:02}:{minute:02}:{second:02}", days * 24 + u64::from(hour));
    if len == 12 {
        text.push_str(&format!(".{:06}", rest.u32()?));
    }
    Some(Datum::Text(text))
}

/// What the crate reads instead of the client.
pub struct CommandReader<'a> {
    input: &'a mut PacketReader,
    desk: Arc<Desk>,
    /// Ends the run between two commands.
    shutdown: Pin<Box<WaitForCancellationFutureOwned>>,
    /// When the client will have been silent for too long; set when it is waited for.
    silence: Option<Pin<Box<Sleep>>>,
    /// Bytes for the crate, and how many of them it has.
    ready: Vec<u8>,
    given: usize,
}

impl<'a> CommandReader<'a> {
    /// Reads commands until the client ends or `shutdown` completes; a command that is being run is not interrupted.
    pub fn new(input: &'a mut PacketReader, desk: Arc<Desk>, shutdown: WaitForCancellationFutureOwned) -> Self {
        // A login without name, password or database, of protocol 4.1.
        let mut login = vec![0; 4 + 32];
        login[0] = 34;
        login[3] = 1;
        login[4..8].copy_from_slice(
            &(super::handshake::capability::PROTOCOL_41 | super::handshake::capability::SECURE_CONNECTION)
                .to_le_bytes(),
        );
        login.extend_from_slice(&[0, 0]);
        Self { input, desk, shutdown: Box::pin(shutdown), silence: None, ready: login, given: 0 }
    }
}

impl AsyncRead for CommandReader<'_> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let rest = &this.ready[this.given..];
            if !rest.is_empty() {
                let len = rest.len().min(buf.remaining());
                buf.put_slice(&rest[..len]);
                this.given += len;
                return Poll::Ready(Ok(()));
            }
            let packet = match this.input.poll_packet(cx, MAX_PACKET) {
                Poll::Ready(packet) => packet?,
                Poll::Pending => {
                    let mut state = this.desk.lock();
                    let silence = this.silence.get_or_insert_with(|| Box::pin(sleep(state.shown.wait_timeout)));
                    let leave = if this.shutdown.as_mut().poll(cx).is_ready() {
                        Leave::Shutdown
                    } else {
                        ready!(silence.as_mut().poll(cx));
                        Leave::Silent
                    };
                    state.leave = Some(leave);
                    None
                }
            };
            this.silence = None;
            let Some(packet) = packet else {
                return Poll::Ready(Ok(()));
            };
            if let Some(bare) = this.desk.lock().receive(packet) {
                this.ready.clear();
                this.ready.extend_from_slice(&(bare.len() as u32).to_le_bytes());
                this.ready.extend_from_slice(&bare);
                this.given = 0;
            }
        }
    }
}

/// What the crate writes to instead of the client. It is given one frame with each call.
pub struct ReplyWriter<'a> {
    output: &'a mut PacketWriter,
    desk: Arc<Desk>,
    /// Packets of the crate's connection phase still to come: greeting and OK.
    swallow: u8,
}

impl<'a> ReplyWriter<'a> {
    /// Writes replies to a client that is logged in.
    pub fn new(output: &'a mut PacketWriter, desk: Arc<Desk>) -> Self {
        Self { output, desk, swallow: 2 }
    }

    fn take_frame(&mut self, payload: &[u8]) {
        if self.swallow > 0 {
            self.swallow -= 1;
            return;
        }
        let mut state = self.desk.lock();
        self.output.patience = state.shown.write_timeout;
        if matches!(state.edits.front(), Some(Edit::Drop)) {
            state.edits.pop_front();
            return;
        }
        let mut send = |state: &mut State, payload: &[u8]| {
            self.output.frame(state.sequence, payload);
            state.sequence = state.sequence.wrapping_add(1);
        };
        if std::mem::take(&mut state.owes_frame) {
            send(&mut state, &[]);
        }
        let goes_on = std::mem::replace(&mut state.open_frame, payload.len() == FRAME);
        let reply = if goes_on { None } else { state.reply(payload) };
        send(&mut state, reply.as_deref().unwrap_or(payload));
    }
}

impl AsyncWrite for ReplyWriter<'_> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, frame: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(frame)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.output.is_full() {
            ready!(this.output.poll_drain(cx))?;
        }
        // The header comes first, in a part of its own or not.
        match parts {
            [header, payload] if header.len() == 4 => {
                this.take_frame(payload);
                Poll::Ready(Ok(4 + payload.len()))
            }
            [frame] if frame.len() >= 4 => {
                this.take_frame(&frame[4..]);
                Poll::Ready(Ok(frame.len()))
            }
            _ => Poll::Ready(Err(io::ErrorKind::InvalidInput.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().output.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }
}
