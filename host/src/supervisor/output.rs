//! A host's log on its way to ours.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::process::ChildStderr;
use std::sync::mpsc::Sender;
use std::thread;

use super::News;
use crate::log::{Line, Printer};

/// The longest line taken whole; a longer one goes on as several. Ours stay far below it, and a plugin that prints
/// without line ends must not fill the memory.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Reads one start of one host.
pub(super) struct HostLog {
    pub(super) host: usize,
    pub(super) run: u64,
    pub(super) pipeline: String,
    pub(super) printer: Printer,
    pub(super) news: Sender<News>,
}

impl HostLog {
    /// Prints every line in our own format until the host's end, in a thread of its own.
    ///
    /// # Errors
    /// The operating system gives no thread.
    pub(super) fn read_in_thread(self, log: ChildStderr) -> io::Result<()> {
        let name = format!("log-{}", self.pipeline);
        thread::Builder::new()
            .name(name)
            .spawn(move || self.read(log))?;
        Ok(())
    }

    fn read(self, log: impl io::Read) {
        for_each_line(log, |text| self.take(text));
        // Nobody listens any more only when the process is about to end.
        let _ = self.news.send(News::LogEnded);
    }

    fn take(&self, text: &str) {
        let Some(line) = Line::parse(text) else {
            return self.printer.print_foreign(text, &self.pipeline);
        };
        let names_address = matches!(line.event(), Some("listening" | "ready"));
        let address = line.text("http").filter(|_| names_address);
        if let Some(http) = address.and_then(|text| text.parse().ok()) {
            let (host, run) = (self.host, self.run);
            let _ = self.news.send(News::Listening { host, run, http });
        }
        self.printer.print(&line, Some(&self.pipeline));
    }
}

/// Calls `take` with every line, without its end, and with a line above [`MAX_LINE_BYTES`] in pieces.
fn for_each_line(log: impl io::Read, mut take: impl FnMut(&str)) {
    let mut log = BufReader::new(log);
    let mut bytes = Vec::new();
    loop {
        bytes.clear();
        let read = log
            .by_ref()
            .take(MAX_LINE_BYTES)
            .read_until(b'\n', &mut bytes);
        // A pipe that breaks is a host that ended.
        if !matches!(read, Ok(1..)) {
            return;
        }
        take(String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Format, Scrubber};
    use std::sync::mpsc;

    fn news_of(log: &[u8]) -> Vec<News> {
        let (sender, news) = mpsc::channel();
        let reader = HostLog {
            host: 3,
            run: 7,
            pipeline: "visits".to_owned(),
            printer: Printer::new(Format::Text, Scrubber::default()),
            news: sender,
        };
        reader.read(log);
        news.iter().collect()
    }

    #[test]
    fn the_address_is_learned_from_the_log() {
        let mut line = Line::now("INFO", "weir");
        line.push("event", "listening".into());
        line.push("http", "127.0.0.1:4567".into());
        let json = serde_json::to_string(&line).expect("plain data");
        let log = format!("not json\n{json}\n\u{0}");
        let news = news_of(log.as_bytes());
        let [
            News::Listening {
                host: 3,
                run: 7,
                http,
            },
            News::LogEnded,
        ] = news.as_slice()
        else {
            panic!("unexpected: {news:?}");
        };
        assert_eq!(http.port(), 4567);
    }

    #[test]
    fn a_line_without_end_is_taken_in_pieces() {
        let limit = usize::try_from(MAX_LINE_BYTES).expect("small");
        let mut log = vec![b'x'; 2 * limit + 1];
        log.extend(b"\r\nlast \xff");
        let mut taken = Vec::new();
        for_each_line(log.as_slice(), |text| taken.push(text.to_owned()));
        let lengths: Vec<usize> = taken.iter().map(String::len).collect();
        assert_eq!(lengths[..3], [limit, limit, 1]);
        assert_eq!(taken.last().map(String::as_str), Some("last \u{fffd}"));
        assert_eq!(taken.len(), 4);
    }
}
