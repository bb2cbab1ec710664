//! Where the lines go: a terminal keeps a block below them up to date, a log gets a status line now and then.

use std::io::{self, IsTerminal, Stdout, Write};
use std::time::{Duration, Instant};

use terminal_size::{Width, terminal_size};

/// Between two status lines of a log.
const STATUS_LINE_EVERY: Duration = Duration::from_secs(5);
/// Width that is assumed where the terminal does not say.
const WIDTH_DEFAULT: usize = 100;

pub enum Screen {
    Terminal(Terminal),
    Log(Log),
}

pub struct Terminal {
    out: Stdout,
    block_lines: usize,
    color: bool,
}

pub struct Log {
    out: Stdout,
    status_at: Option<Instant>,
}

impl Screen {
    /// A terminal if stdout is one and `plain` does not say otherwise. `NO_COLOR` is respected.
    pub fn new(plain: bool) -> Self {
        let out = io::stdout();
        if out.is_terminal() && !plain {
            let color = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
            Self::Terminal(Terminal {
                out,
                block_lines: 0,
                color,
            })
        } else {
            Self::Log(Log {
                out,
                status_at: None,
            })
        }
    }

    pub fn color(&self) -> bool {
        matches!(self, Self::Terminal(terminal) if terminal.color)
    }

    pub fn width(&self) -> usize {
        match terminal_size() {
            Some((Width(width), _)) if width > 0 => usize::from(width),
            _ => WIDTH_DEFAULT,
        }
    }

    /// A line that stays.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => {
                terminal.clear_block()?;
                writeln!(terminal.out, "{line}")
            }
            Self::Log(log) => writeln!(log.out, "{line}"),
        }
    }

    /// The state of things: the block for a terminal, the line for a log when it is due.
    pub fn status(
        &mut self,
        block: impl FnOnce() -> Vec<String>,
        line: impl FnOnce() -> String,
    ) -> io::Result<()> {
        match self {
            Self::Terminal(terminal) => terminal.renew_block(&block()),
            Self::Log(log) => {
                let due = log
                    .status_at
                    .is_none_or(|at| at.elapsed() >= STATUS_LINE_EVERY);
                if due {
                    log.status_at = Some(Instant::now());
                    writeln!(log.out, "{}", line())?;
                }
                log.out.flush()
            }
        }
    }
}

impl Terminal {
    fn clear_block(&mut self) -> io::Result<()> {
        if self.block_lines > 0 {
            write!(self.out, "\x1b[{}A\r\x1b[J", self.block_lines)?;
            self.block_lines = 0;
        }
        Ok(())
    }

    fn renew_block(&mut self, lines: &[String]) -> io::Result<()> {
        self.clear_block()?;
        for line in lines {
            writeln!(self.out, "{line}")?;
        }
        self.block_lines = lines.len();
        self.out.flush()
    }
}
