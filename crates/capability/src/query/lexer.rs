//! Tokens of the text form.
//!
//! A bare word is everything up to white space, a comma, a bracket, a quote or a comparison sign, so that `EUR/USD`, `2021..2024`, `99%`,
//! `sha256:…`, `fin:pair` and `2024-01-01T00:00:00Z` need no quotes.

use super::error::{QueryError, quote};

/// What a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Token {
    /// A bare word.
    Word(String),
    /// The content of a quoted string, escapes resolved.
    Quoted(String),
    /// A comparison sign, in its ASCII form: `= != < <= > >=`.
    Sign(&'static str),
    /// `(` or `[`.
    Open,
    /// `)` or `]`.
    Close,
    /// `,`.
    Comma,
    /// The end of the text.
    End,
}

impl Token {
    /// The token as an error names it.
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => quote(word),
            Self::Quoted(text) => format!("the quoted text {}", quote(text)),
            Self::Sign(sign) => format!("'{sign}'"),
            Self::Open => "an opening bracket".into(),
            Self::Close => "a closing bracket".into(),
            Self::Comma => "a comma".into(),
            Self::End => "the end of the query".into(),
        }
    }
}

/// A token and where it starts.
#[derive(Clone, Debug)]
pub(super) struct Spanned {
    pub(super) token: Token,
    /// Column of its first character, counted in characters from 1.
    pub(super) column: usize,
}

/// True for a character that ends a bare word.
pub(super) fn ends_word(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            ',' | '(' | ')' | '[' | ']' | '"' | '=' | '<' | '>' | '≤' | '≥' | '≠' | '“' | '”'
        )
}

/// Cuts `text` into tokens, the last of which is [`Token::End`].
///
/// # Errors
/// [`QueryError::Syntax`] on an unclosed quote or an unknown escape.
pub(super) fn lex(text: &str) -> Result<Vec<Spanned>, QueryError> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let column = at + 1;
        let next = chars.get(at + 1).copied();
        let (token, used) = match c {
            c if c.is_whitespace() || c.is_control() => {
                at += 1;
                continue;
            }
            '(' | '[' => (Token::Open, 1),
            ')' | ']' => (Token::Close, 1),
            ',' => (Token::Comma, 1),
            '=' => (Token::Sign("="), if next == Some('=') { 2 } else { 1 }),
            '<' if next == Some('=') => (Token::Sign("<="), 2),
            '<' if next == Some('>') => (Token::Sign("!="), 2),
            '<' => (Token::Sign("<"), 1),
            '>' if next == Some('=') => (Token::Sign(">="), 2),
            '>' => (Token::Sign(">"), 1),
            '≤' => (Token::Sign("<="), 1),
            '≥' => (Token::Sign(">="), 1),
            '≠' => (Token::Sign("!="), 1),
            '!' if next == Some('=') => (Token::Sign("!="), 2),
            '"' | '“' | '”' => quoted(&chars, at)?,
            _ => {
                let ends = |i: &usize| {
                    ends_word(chars[*i]) || (chars[*i] == '!' && chars.get(i + 1) == Some(&'='))
                };
                let end = (at + 1..chars.len()).find(ends).unwrap_or(chars.len());
                (Token::Word(chars[at..end].iter().collect()), end - at)
            }
        };
        tokens.push(Spanned { token, column });
        at += used;
    }
    tokens.push(Spanned { token: Token::End, column: chars.len() + 1 });
    Ok(tokens)
}

/// Reads the quoted string that starts at `start`: its content and how many characters it takes, quotes included.
fn quoted(chars: &[char], start: usize) -> Result<(Token, usize), QueryError> {
    let mut out = String::new();
    let mut at = start + 1;
    while let Some(&c) = chars.get(at) {
        match c {
            '"' | '“' | '”' => return Ok((Token::Quoted(out), at + 1 - start)),
            '\\' => {
                let (escaped, used) =
                    escape(&chars[at + 1..]).ok_or_else(|| QueryError::Syntax {
                        column: at + 1,
                        expected: "one of the escapes \\\" \\\\ \\n \\t \\u{hex}".into(),
                        found: quote(
                            &chars[at..chars.len().min(at + 2)].iter().collect::<String>(),
                        ),
                        example: r#"find "a \"quoted\" word""#.into(),
                    })?;
                out.push(escaped);
                at += 1 + used;
            }
            _ => {
                out.push(c);
                at += 1;
            }
        }
    }
    Err(QueryError::Syntax {
        column: start + 1,
        expected: "a closing quote".into(),
        found: "the end of the query".into(),
        example: r#"find "historical exchange rates""#.into(),
    })
}

/// The character an escape stands for, `rest` starting behind the backslash, and how many characters it takes.
fn escape(rest: &[char]) -> Option<(char, usize)> {
    match rest.first()? {
        'n' => Some(('\n', 1)),
        't' => Some(('\t', 1)),
        'r' => Some(('\r', 1)),
        c @ ('"' | '\\' | '“' | '”') => Some((*c, 1)),
        'u' if rest.get(1) == Some(&'{') => {
            let digits: String = rest[2..].iter().take(7).take_while(|c| **c != '}').collect();
            let code = u32::from_str_radix(&digits, 16).ok()?;
            (rest.get(2 + digits.len()) == Some(&'}')).then_some(())?;
            Some((char::from_u32(code)?, 3 + digits.len()))
        }
        _ => None,
    }
}

/// `text` in quotes, escaped so that [`lex`] gives it back.
pub(super) fn in_quotes(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' | '“' | '”' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
