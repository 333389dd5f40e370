//! The text form, read by recursive descent.
//!
//! Written by hand rather than with combinators for two reasons: what a word means depends on the type of the key before it (`1m` is a
//! minute, `0.001 USD` is one value, `2021 to 2024` is one interval), and every error has to say the column, what would have been accepted
//! and how a correct query looks.
//!
//! ```text
//! query   = ["find"] words clause*
//! clause  = "under" class ("," class)*           | "where" cond (("and" | ",") cond)*
//!         | "prefer" cond (("and" | ",") cond)*  | "exclude" cond (("and" | ",") cond)*
//!         | "named" name | "interface" digest | "rank" profile | "top" n | "probe" n
//!         | "budget" (n "ms" | n "kb")+ | "with" "evidence"
//! cond    = key ("=" | "!=" | "<" | "<=" | ">" | ">=") value
//!         | key ("in" | "any" | "all" | "under") ("(" value ("," value)* ")" | value)
//!         | key "between" value "and" value
//!         | key ("covers" | "overlaps" | "within" | "semver") value
//!         | key "near" place distance | key "exists"
//! ```
//!
//! Words are free text until the first clause; in quotes they are free text whatever they say.

use serde_json::Value as Json;

use super::ast::{Condition, Draft, Query, RankProfile};
use super::build::{self, INTERFACE, Kind, Op, Raw};
use super::display::short_name;
use super::error::QueryError;
use super::lexer::{Spanned, Token, lex};
use super::{TEXT_FORM_BYTES_MAX, VALUES_MAX};
use crate::attribute::ValueKind;

impl Query {
    /// Reads the text form; words alone are a query too.
    ///
    /// # Errors
    /// [`QueryError`], with the column for everything that does not parse.
    pub fn parse_text(text: &str) -> Result<Self, QueryError> {
        if text.len() > TEXT_FORM_BYTES_MAX {
            return Err(QueryError::Bound {
                bound: "TEXT_FORM_BYTES_MAX",
                what: "bytes",
                max: TEXT_FORM_BYTES_MAX,
                got: text.len(),
            });
        }
        let mut parser = Parser { tokens: lex(text)?, at: 0, draft: Draft::default() };
        parser.query()?;
        parser.draft.finish()
    }
}

/// What begins a clause.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Clause {
    Under,
    Where,
    Prefer,
    Exclude,
    Named,
    Interface,
    Rank,
    Top,
    Probe,
    Budget,
    Evidence,
}

const CLAUSES: &str = "a clause (under, where, prefer, exclude, named, interface, rank, top, probe, budget, with evidence) or the end";
const EXAMPLE: &str =
    "find \"exchange rates\" under finance where pair = EUR/USD prefer price < 0.001 USD top 5";

struct Parser {
    tokens: Vec<Spanned>,
    at: usize,
    draft: Draft,
}

impl Parser {
    fn query(&mut self) -> Result<(), QueryError> {
        if self.word_is("find") {
            self.at += 1;
        }
        self.words()?;
        while let Some(clause) = self.clause_here() {
            self.clause(clause)?;
        }
        if *self.token() == Token::End { Ok(()) } else { Err(self.expected(CLAUSES, EXAMPLE)) }
    }

    /// The free text: quoted texts and bare words up to the first clause. Commas and brackets between words are punctuation.
    fn words(&mut self) -> Result<(), QueryError> {
        let mut words: Vec<String> = Vec::new();
        while self.clause_here().is_none() {
            match self.token() {
                Token::Word(word) | Token::Quoted(word) => words.push(word.clone()),
                Token::Open | Token::Close | Token::Comma => {}
                Token::Sign(_) => {
                    return Err(self.expected("words, or 'where' before a condition", EXAMPLE));
                }
                Token::End => break,
            }
            self.at += 1;
        }
        if !words.is_empty() {
            self.draft.text = Some(words.join(" "));
        }
        Ok(())
    }

    fn clause(&mut self, clause: Clause) -> Result<(), QueryError> {
        self.at += 1;
        match clause {
            Clause::Under => self.under(),
            Clause::Where => {
                let conditions = self.conditions()?;
                self.draft.conditions.extend(conditions);
                Ok(())
            }
            Clause::Prefer => {
                let conditions = self.conditions()?;
                self.draft
                    .conditions
                    .extend(conditions.into_iter().map(|condition| condition.soft(true)));
                Ok(())
            }
            Clause::Exclude => {
                let conditions = self.conditions()?;
                self.draft.exclude.extend(conditions);
                Ok(())
            }
            Clause::Named => {
                let name = self.text("a capability name", "named fx-history")?;
                self.draft.name = Some(name);
                Ok(())
            }
            Clause::Interface => {
                let column = self.column();
                let digest = self.text("an interface digest", "interface sha256:0f…")?;
                let condition = self.built(
                    column,
                    INTERFACE,
                    Kind::Interface,
                    Op::Interface,
                    &raw(Json::String(digest)),
                )?;
                self.draft.conditions.push(condition);
                Ok(())
            }
            Clause::Rank => {
                let name = self.text("a rank profile", "rank cheapest")?;
                // `clause_here` has seen that the profile exists.
                self.draft.rank = RankProfile::by_name(&name).unwrap_or_default();
                Ok(())
            }
            Clause::Top => {
                self.draft.k = self.number("top 5")?;
                Ok(())
            }
            Clause::Probe => {
                self.draft.probe = self.number("probe 3")?;
                Ok(())
            }
            Clause::Budget => self.budget(),
            Clause::Evidence => {
                self.at += 1;
                self.draft.evidence = true;
                Ok(())
            }
        }
    }

    fn under(&mut self) -> Result<(), QueryError> {
        let column = self.column();
        let mut values = vec![Json::String(self.text("a class", "under finance")?)];
        while *self.token() == Token::Comma && values.len() <= VALUES_MAX {
            self.at += 1;
            values.push(Json::String(self.text("a class", "under finance, transportation")?));
        }
        let condition = self.built(
            column,
            build::CLASS,
            Kind::Class,
            Op::Under,
            &Raw { values, radius_m: None },
        )?;
        self.draft.conditions.push(condition);
        Ok(())
    }

    fn conditions(&mut self) -> Result<Vec<Condition>, QueryError> {
        let mut conditions = Vec::new();
        loop {
            conditions.push(self.condition()?);
            if self.word_is("or") {
                return Err(self.expected(
                    "'and', or one condition with any (a, b) for alternatives",
                    "where pair any (EUR/USD, EUR/GBP)",
                ));
            }
            if !self.word_is("and") && *self.token() != Token::Comma {
                return Ok(conditions);
            }
            self.at += 1;
        }
    }

    fn condition(&mut self) -> Result<Condition, QueryError> {
        let column = self.column();
        let name = self.text("an attribute", "where pair = EUR/USD and time covers 2021..2024")?;
        let (key, kind) = build::resolve(&name).map_err(|error| placed(column, error))?;
        let (op, list) = self.operator(&key, kind)?;
        let column = self.column();
        let raw = match op {
            Op::Exists => Raw::default(),
            Op::Between => self.between(&key, kind)?,
            Op::Near => self.near(&key, kind)?,
            Op::Semver => raw(Json::String(self.requirement(&key, kind)?)),
            Op::Any | Op::All | Op::Under => Raw { values: self.list(&key, kind)?, radius_m: None },
            Op::Eq if list => {
                let values = self.list(&key, kind)?;
                return self.built(
                    column,
                    &key,
                    kind,
                    if values.len() == 1 { Op::Eq } else { Op::Any },
                    &Raw { values, radius_m: None },
                );
            }
            Op::Eq
            | Op::Ne
            | Op::Lt
            | Op::Lte
            | Op::Gt
            | Op::Gte
            | Op::Covers
            | Op::Overlaps
            | Op::Within
            | Op::FinerOrEqual
            | Op::Interface => raw(self.value(&key, kind)?),
        };
        self.built(column, &key, kind, op, &raw)
    }

    /// The operator, and whether a bracketed list follows it.
    fn operator(&mut self, key: &str, kind: Kind) -> Result<(Op, bool), QueryError> {
        let op = match self.token() {
            Token::Sign("=") => Some(Op::Eq),
            Token::Sign("!=") => Some(Op::Ne),
            Token::Sign("<") => Some(Op::Lt),
            Token::Sign("<=") => Some(Op::Lte),
            Token::Sign(">") => Some(Op::Gt),
            Token::Sign(">=") => Some(Op::Gte),
            Token::Word(word) => match word.to_ascii_lowercase().as_str() {
                "is" | "has" => Some(Op::Eq),
                "in" => Some(Op::Any),
                "covering" => Some(Op::Covers),
                "overlapping" => Some(Op::Overlaps),
                "finer" => Some(Op::FinerOrEqual),
                name => Op::by_name(name),
            },
            Token::Sign(_)
            | Token::Quoted(_)
            | Token::Open
            | Token::Close
            | Token::Comma
            | Token::End => None,
        };
        let Some(op) = op else {
            let allowed =
                kind.operators().iter().map(|op| op.name()).collect::<Vec<_>>().join(", ");
            return Err(self.expected(
                &format!(
                    "an operator for {} (= != < <= > >=, or a word: {allowed})",
                    short_name(key)
                ),
                &kind.example(short_name(key)),
            ));
        };
        if !kind.operators().contains(&op) && !matches!((kind, op), (Kind::Interface, Op::Eq)) {
            return Err(placed(self.column(), build::wrong_operator(key, kind, op.name())));
        }
        self.at += 1;
        Ok((op, *self.token() == Token::Open))
    }

    fn list(&mut self, key: &str, kind: Kind) -> Result<Vec<Json>, QueryError> {
        if *self.token() != Token::Open {
            return Ok(vec![self.value(key, kind)?]);
        }
        self.at += 1;
        let mut values = Vec::new();
        loop {
            values.push(self.value(key, kind)?);
            let closed = *self.token() == Token::Close;
            if !closed && *self.token() != Token::Comma {
                return Err(self.expected(
                    "a comma or the closing bracket",
                    &format!("{} any (a, b)", short_name(key)),
                ));
            }
            self.at += 1;
            if closed {
                return Ok(values);
            }
        }
    }

    fn between(&mut self, key: &str, kind: Kind) -> Result<Raw, QueryError> {
        if *self.token() == Token::Open {
            return Ok(Raw { values: self.list(key, kind)?, radius_m: None });
        }
        let low = self.value(key, kind)?;
        if !self.word_is("and") {
            return Err(self.expected(
                "'and' and the upper value",
                &format!("{} between 1 and 5", short_name(key)),
            ));
        }
        self.at += 1;
        Ok(Raw { values: vec![low, self.value(key, kind)?], radius_m: None })
    }

    fn near(&mut self, key: &str, kind: Kind) -> Result<Raw, QueryError> {
        let place = if *self.token() == Token::Open {
            let parts = self.list(key, Kind::Unknown)?;
            Json::String(
                parts
                    .iter()
                    .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
                    .collect::<Vec<_>>()
                    .join(","),
            )
        } else {
            self.value(key, kind)?
        };
        if self.word_is("r") || self.word_is("radius") || self.word_is("within") {
            self.at += 1;
        }
        let mut distance = String::new();
        if let Token::Word(word) = self.token() {
            distance.push_str(word);
            self.at += 1;
            if self.word_is("km") || self.word_is("m") {
                distance.push_str(&self.text("a unit", "50 km")?);
            }
        }
        let radius_m = metres(&distance).ok_or_else(|| {
            self.expected("a distance in km or m", &kind.example(short_name(key)))
        })?;
        Ok(Raw { values: vec![place], radius_m: Some(radius_m) })
    }

    /// A version requirement: quoted, or one comparator.
    fn requirement(&mut self, key: &str, kind: Kind) -> Result<String, QueryError> {
        let mut out = String::new();
        if let Token::Sign(sign) = self.token() {
            out.push_str(sign);
            self.at += 1;
        }
        out.push_str(&self.text("a version requirement", &kind.example(short_name(key)))?);
        Ok(out)
    }

    /// One value: a quoted text, a word, or the few words that the type of the key reads as one value.
    fn value(&mut self, key: &str, kind: Kind) -> Result<Json, QueryError> {
        let word = match self.token() {
            Token::Quoted(text) => {
                let text = text.clone();
                self.at += 1;
                return Ok(Json::String(text));
            }
            Token::Word(word) => word.clone(),
            Token::Sign(_) | Token::Open | Token::Close | Token::Comma | Token::End => {
                return Err(self.expected(
                    &format!("{} for {}", kind.describe(), short_name(key)),
                    &kind.example(short_name(key)),
                ));
            }
        };
        self.at += 1;
        Ok(match kind {
            Kind::Unknown => bare(&word),
            Kind::Known(ValueKind::Money) => {
                Json::String(self.joined(word, " ", is_currency_or_number))
            }
            // A key may give a bare number a unit of its own, and then it reads numbers only.
            Kind::Known(ValueKind::Duration) if is_number(&word) => {
                bare(&self.joined(word, " ", is_unit))
            }
            Kind::Known(ValueKind::Interval | ValueKind::Time) => Json::String(self.interval(word)),
            Kind::Known(ValueKind::Geo) => Json::String(self.place(word)),
            Kind::Known(_) | Kind::Class | Kind::Tags | Kind::Interface => Json::String(word),
        })
    }

    /// `word`, with the next word if `follows` says that it belongs to it.
    fn joined(&mut self, word: String, with: &str, follows: fn(&str) -> bool) -> String {
        if let Token::Word(next) = self.token()
            && follows(next)
        {
            let both = format!("{word}{with}{next}");
            self.at += 1;
            return both;
        }
        word
    }

    /// `2021..2024`, also spelled `2021 to 2024` or `2021 .. 2024`.
    fn interval(&mut self, word: String) -> String {
        if (self.word_is("to") || self.word_is(".."))
            && let Some(Token::Word(end)) = self.tokens.get(self.at + 1).map(|t| &t.token)
        {
            let both = format!("{word}..{end}");
            self.at += 2;
            return both;
        }
        word
    }

    /// Coordinates separated by commas.
    fn place(&mut self, word: String) -> String {
        let mut out = word;
        while *self.token() == Token::Comma
            && let Some(Token::Word(next)) = self.tokens.get(self.at + 1).map(|t| &t.token)
            && is_number(next)
        {
            out.push(',');
            out.push_str(next);
            self.at += 2;
        }
        out
    }

    fn budget(&mut self) -> Result<(), QueryError> {
        let mut found = false;
        while let Token::Word(word) = self.token() {
            let digits = word.len() - word.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, unit) = word.split_at(digits);
            let Ok(number) = number.parse::<u32>() else { break };
            match unit.to_ascii_lowercase().as_str() {
                "ms" => self.draft.budget.ms = Some(number),
                "s" => self.draft.budget.ms = Some(number.saturating_mul(1000)),
                "kb" => self.draft.budget.kb = Some(number),
                _ => break,
            }
            found = true;
            self.at += 1;
            if *self.token() == Token::Comma {
                self.at += 1;
            }
        }
        if found {
            Ok(())
        } else {
            Err(self.expected("a time in ms or a traffic in kb", "budget 2500ms 400kb"))
        }
    }

    fn number(&mut self, example: &str) -> Result<u32, QueryError> {
        let wrong = self.expected("a whole number", example);
        let Token::Word(word) = self.token() else { return Err(wrong) };
        let number = word.parse().map_err(|_| wrong)?;
        self.at += 1;
        Ok(number)
    }

    /// The next token as a text, bare or quoted.
    fn text(&mut self, what: &str, example: &str) -> Result<String, QueryError> {
        match self.token() {
            Token::Word(text) | Token::Quoted(text) => {
                let text = text.clone();
                self.at += 1;
                Ok(text)
            }
            Token::Sign(_) | Token::Open | Token::Close | Token::Comma | Token::End => {
                Err(self.expected(what, example))
            }
        }
    }

    /// Whether a clause begins here. Words that also occur in plain speech begin one only before what the clause needs: `top 5` does,
    /// `top selling` does not.
    fn clause_here(&self) -> Option<Clause> {
        let Token::Word(word) = self.token() else { return None };
        let next = self.tokens.get(self.at + 1).and_then(|t| match &t.token {
            Token::Word(next) => Some(next.as_str()),
            Token::Quoted(_)
            | Token::Sign(_)
            | Token::Open
            | Token::Close
            | Token::Comma
            | Token::End => None,
        });
        let counts = next.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()));
        match word.to_ascii_lowercase().as_str() {
            "under" => Some(Clause::Under),
            "where" => Some(Clause::Where),
            "prefer" => Some(Clause::Prefer),
            "exclude" => Some(Clause::Exclude),
            "named" => Some(Clause::Named),
            "interface"
                if next.is_some_and(|n| {
                    n.starts_with("sha256:") || build::parse_digest(n).is_some()
                }) =>
            {
                Some(Clause::Interface)
            }
            "rank" if next.is_some_and(|n| RankProfile::by_name(n).is_some()) => Some(Clause::Rank),
            "top" if counts => Some(Clause::Top),
            "probe" if counts => Some(Clause::Probe),
            "budget" if next.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit())) => {
                Some(Clause::Budget)
            }
            "with" if next.is_some_and(|n| n.eq_ignore_ascii_case("evidence")) => {
                Some(Clause::Evidence)
            }
            _ => None,
        }
    }

    fn token(&self) -> &Token {
        // The last token is `End` and nothing steps over it.
        self.tokens.get(self.at).map_or(&Token::End, |t| &t.token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).or_else(|| self.tokens.last()).map_or(1, |t| t.column)
    }

    fn word_is(&self, wanted: &str) -> bool {
        matches!(self.token(), Token::Word(word) if word.eq_ignore_ascii_case(wanted))
    }

    fn built(
        &self,
        column: usize,
        key: &str,
        kind: Kind,
        op: Op,
        raw: &Raw,
    ) -> Result<Condition, QueryError> {
        build::condition(key, kind, op, raw).map_err(|error| placed(column, error))
    }

    fn expected(&self, expected: &str, example: &str) -> QueryError {
        QueryError::Syntax {
            column: self.column(),
            expected: expected.into(),
            found: self.token().describe(),
            example: example.into(),
        }
    }
}

/// The same error, with the column it belongs to.
fn placed(column: usize, error: QueryError) -> QueryError {
    match error {
        QueryError::Value { key, given, kind, why, example } => QueryError::Syntax {
            column,
            expected: format!("{kind} for {} ({why})", short_name(&key)),
            found: given,
            example,
        },
        QueryError::Operator { key, kind, operator, allowed, example } => QueryError::Syntax {
            column,
            expected: format!("one of {allowed}, because {} is {kind}", short_name(&key)),
            found: operator,
            example,
        },
        other @ (QueryError::Syntax { .. }
        | QueryError::Json { .. }
        | QueryError::Bound { .. }
        | QueryError::Empty) => other,
    }
}

fn raw(value: Json) -> Raw {
    Raw { values: vec![value], radius_m: None }
}

/// A bare value of a key that no profile knows: a boolean or number if it reads as one, else a text.
pub(super) fn bare(word: &str) -> Json {
    match serde_json::from_str::<Json>(word) {
        Ok(json @ (Json::Bool(_) | Json::Number(_))) => json,
        Ok(Json::Null | Json::String(_) | Json::Array(_) | Json::Object(_)) | Err(_) => {
            Json::String(word.into())
        }
    }
}

fn is_number(word: &str) -> bool {
    word.parse::<crate::attribute::Decimal>().is_ok()
}

/// Three letters that no clause begins with.
fn is_currency_or_number(word: &str) -> bool {
    let letters = word.len() == 3 && word.bytes().all(|b| b.is_ascii_alphabetic());
    (letters && !["and", "top"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword)))
        || is_number(word)
}

fn is_unit(word: &str) -> bool {
    ![
        "and",
        "or",
        "top",
        "probe",
        "prefer",
        "exclude",
        "named",
        "under",
        "rank",
        "budget",
        "with",
        "interface",
        "where",
    ]
    .iter()
    .any(|keyword| word.eq_ignore_ascii_case(keyword))
        && format!("1 {word}").parse::<crate::attribute::Period>().is_ok()
}

/// `50km`, `800m`, `800` as metres.
fn metres(text: &str) -> Option<u32> {
    let text = text.to_ascii_lowercase();
    let (number, factor) = match (text.strip_suffix("km"), text.strip_suffix('m')) {
        (Some(number), _) => (number, 1000),
        (None, Some(number)) => (number, 1),
        (None, None) => (text.as_str(), 1),
    };
    let number: crate::attribute::Decimal = number.trim().parse().ok()?;
    number.times_whole(factor).and_then(|m| u32::try_from(m).ok())
}
