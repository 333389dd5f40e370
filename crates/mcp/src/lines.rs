//! Messages as lines, each of bounded length: the stdio transport of MCP.

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// One line read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line without its end.
    Whole(Vec<u8>),
    /// A line longer than allowed; it was skipped to its end.
    TooLong,
    /// There is no more.
    End,
}

/// Reads the next line of at most `max` bytes. Not cancel-safe.
pub(crate) async fn next(
    input: &mut (impl AsyncBufRead + Unpin),
    max: usize,
) -> std::io::Result<Line> {
    let (mut line, mut too_long) = (Vec::new(), false);
    loop {
        let chunk = input.fill_buf().await?;
        if chunk.is_empty() {
            return Ok(match (line.is_empty(), too_long) {
                (_, true) => Line::TooLong,
                (true, false) => Line::End,
                (false, false) => Line::Whole(line),
            });
        }
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(chunk.len());
        if !too_long && line.len() + taken <= max {
            line.extend_from_slice(&chunk[..taken]);
        } else {
            too_long = true;
            line = Vec::new();
        }
        input.consume(end.map_or(taken, |end| end + 1));
        if end.is_some() {
            return Ok(if too_long { Line::TooLong } else { Line::Whole(line) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_bounded_and_what_follows_is_read() {
        let text = format!("one\n{}\n\nlast", "x".repeat(50));
        for buffer in [1, 3, 4096] {
            let mut input = tokio::io::BufReader::with_capacity(buffer, text.as_bytes());
            let mut found = Vec::new();
            loop {
                match next(&mut input, 10).await.unwrap() {
                    Line::End => break,
                    line @ (Line::Whole(_) | Line::TooLong) => found.push(line),
                }
            }
            let whole = |text: &str| Line::Whole(text.as_bytes().to_vec());
            assert_eq!(found, [whole("one"), Line::TooLong, whole(""), whole("last")], "{buffer}");
        }
    }
}
