//! A terminal of 80 columns, for a command that believes in it.

use std::ffi::OsStr;
use std::io::{Read, Write};
use std::num::NonZero;
use std::process::Child;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use pty_process::Size;
use pty_process::blocking::{Command, Pty};

use crate::support::{Home, heed_interrupts};

/// More rows than any command needs, so that nothing is scrolled away.
const ROWS: u16 = 400;
const COLUMNS: u16 = 80;
/// No command may take longer.
const LIMIT: Duration = Duration::from_secs(100);

/// A command in a pseudo terminal, and what a person would see.
pub(crate) struct Terminal {
    pub(crate) child: Child,
    pty: Arc<Pty>,
    screen: Arc<Mutex<vt100::Parser>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

/// What is seen when it has ended.
pub(crate) struct Seen {
    /// `None`: ended by a signal.
    pub(crate) code: Option<i32>,
    /// The rows of the terminal, without the empty ones at the end.
    pub(crate) rows: Vec<String>,
    /// Rows that go on in the next one, because they are longer than the terminal is wide.
    pub(crate) broken: Vec<usize>,
    /// Column of the cursor.
    pub(crate) column: u16,
    pub(crate) is_cursor_hidden: bool,
}

impl Terminal {
    /// Starts `sss` with the terminal as its input, output and standard error.
    pub(crate) fn start<A: AsRef<OsStr>>(home: &Home, args: impl IntoIterator<Item = A>) -> Self {
        Self::start_with(home, args, |command| command)
    }

    /// As [`Self::start`], with some of the three elsewhere.
    pub(crate) fn start_with<A: AsRef<OsStr>>(
        home: &Home,
        args: impl IntoIterator<Item = A>,
        change: impl FnOnce(Command) -> Command,
    ) -> Self {
        heed_interrupts();
        let (pty, terminal) = pty_process::blocking::open().unwrap();
        pty.resize(Size::new(ROWS, COLUMNS)).unwrap();
        let command = Command::new(env!("CARGO_BIN_EXE_sss"))
            .args(args)
            .env("HOME", home.path(""))
            .env("XDG_CONFIG_HOME", home.path("config"))
            .env("TERM", "xterm-256color")
            .env_remove("COLUMNS")
            .env_remove("SSS_SERVER");
        let child = change(command).spawn(terminal).unwrap();
        let pty = Arc::new(pty);
        let (rows, columns) = (NonZero::new(ROWS).unwrap(), NonZero::new(COLUMNS).unwrap());
        let screen = Arc::new(Mutex::new(vt100::Parser::new(rows, columns, 0)));
        let (from, to) = (pty.clone(), screen.clone());
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails when nobody has the other end any more.
            while let Ok(count) = (&*from).read(&mut buffer)
                && count > 0
            {
                to.lock().unwrap().process(&buffer[..count]);
            }
        });
        Self {
            child,
            pty,
            screen,
            reader: Some(reader),
        }
    }

    /// Presses keys.
    pub(crate) fn press(&self, keys: &str) {
        (&*self.pty).write_all(keys.as_bytes()).unwrap();
    }

    /// Presses Ctrl-C.
    pub(crate) fn interrupt(&self) {
        self.press("\x03");
    }

    /// Waits until the screen has a text.
    #[track_caller]
    pub(crate) fn wait_for(&self, text: &str) {
        let begun = Instant::now();
        while !self.rows().iter().any(|row| row.contains(text)) {
            assert!(begun.elapsed() < LIMIT, "no {text:?} in:\n{}", self.rows().join("\n"));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What is on the screen now.
    pub(crate) fn rows(&self) -> Vec<String> {
        let screen = self.screen();
        let mut rows: Vec<String> = screen.screen().rows(0, COLUMNS).collect();
        while rows.last().is_some_and(String::is_empty) {
            rows.pop();
        }
        rows
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Seen {
        let begun = Instant::now();
        let code = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status.code();
            }
            assert!(begun.elapsed() < LIMIT, "goes on:\n{}", self.rows().join("\n"));
            std::thread::sleep(Duration::from_millis(2));
        };
        self.reader.take().unwrap().join().unwrap();
        let rows = self.rows();
        let screen = self.screen();
        let is_broken = |row: &usize| screen.screen().row_wrapped(u16::try_from(*row).unwrap());
        Seen {
            code,
            broken: (0..rows.len()).filter(is_broken).collect(),
            rows,
            column: screen.screen().cursor_position().1,
            is_cursor_hidden: screen.screen().hide_cursor(),
        }
    }

    fn screen(&self) -> MutexGuard<'_, vt100::Parser> {
        self.screen.lock().unwrap()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Seen {
    /// It must have ended with this code.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}", self.text());
        self
    }

    pub(crate) fn text(&self) -> String {
        self.rows.join("\n")
    }
}
