//! Working out an arithmetic expression.
//!
//! Written here because what there is does not fit: `evalexpr` is under the AGPL, `meval` and `fasteval` have long been
//! left alone, and none of them bounds what an expression may nest, which a model, or whoever talks to it, chooses.

use std::{f64::consts, fmt};

/// The longest expression, in bytes.
const LONGEST: usize = 512;
/// How deep parentheses, signs and powers may nest.
const DEEPEST: usize = 32;

/// Why an expression has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unworkable {
    /// It is longer than 512 bytes.
    TooLong,
    /// It nests deeper than 32 levels.
    TooDeep,
    /// It ends where something should follow.
    Ended,
    /// Something is where it cannot be: at this byte, counted from 1.
    Unexpected(usize),
    /// Nothing is called so.
    Unknown(String),
    /// This function does not take so many numbers.
    Arguments(String),
    /// Its value is no finite number: it divides by zero, or is too large.
    NotFinite,
}

impl fmt::Display for Unworkable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => write!(f, "the expression is longer than {LONGEST} bytes"),
            Self::TooDeep => write!(f, "the expression nests deeper than {DEEPEST} levels"),
            Self::Ended => f.write_str("the expression ends too early"),
            Self::Unexpected(at) => write!(f, "the expression cannot be read at character {at}"),
            Self::Unknown(name) => write!(f, "nothing is called {name}"),
            Self::Arguments(name) => write!(f, "{name} does not take so many numbers"),
            Self::NotFinite => f.write_str("the result is not a finite number"),
        }
    }
}

/// The value of `expression`, as it is written down.
///
/// # Errors
///
/// [`Unworkable`] if it has none.
pub fn calculate(expression: &str) -> Result<String, Unworkable> {
    if expression.len() > LONGEST {
        return Err(Unworkable::TooLong);
    }
    let mut reader = Reader {
        text: expression.as_bytes(),
        at: 0,
        depth: 0,
    };
    let value = reader.sum()?;
    match reader.peek() {
        None if value.is_finite() => Ok(written(value)),
        None => Err(Unworkable::NotFinite),
        Some(_) => Err(Unworkable::Unexpected(reader.at + 1)),
    }
}

/// 15 digits, as many as a float is sure of: 0.1 + 0.2 is 0.3. Of whole numbers all, as long as it is sure of them.
fn written(value: f64) -> String {
    const SURE: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() <= SURE {
        // There is no negative zero to people.
        return format!("{:.0}", value + 0.0);
    }
    let rounded = format!("{value:.14e}").parse().unwrap_or(value);
    let size: f64 = rounded.abs();
    if (1e-9..1e21).contains(&size) {
        format!("{rounded}")
    } else {
        format!("{rounded:e}")
    }
}

/// Reads an expression from the left, and works it out as it goes.
struct Reader<'a> {
    text: &'a [u8],
    at: usize,
    depth: usize,
}

impl Reader<'_> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        while self.text.get(self.at).is_some_and(u8::is_ascii_whitespace) {
            self.at += 1;
        }
        self.text.get(self.at).copied()
    }

    /// Passes over `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    fn unexpected<T>(&mut self) -> Result<T, Unworkable> {
        Err(match self.peek() {
            Some(_) => Unworkable::Unexpected(self.at + 1),
            None => Unworkable::Ended,
        })
    }

    fn sum(&mut self) -> Result<f64, Unworkable> {
        let mut value = self.product()?;
        loop {
            if self.take(b'+') {
                value += self.product()?;
            } else if self.take(b'-') {
                value -= self.product()?;
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<f64, Unworkable> {
        let mut value = self.signed()?;
        loop {
            if self.take(b'*') {
                value *= self.signed()?;
            } else if self.take(b'/') {
                value /= self.signed()?;
            } else if self.take(b'%') {
                value %= self.signed()?;
            } else {
                return Ok(value);
            }
        }
    }

    /// A sign binds less than a power: -2^2 is -4.
    fn signed(&mut self) -> Result<f64, Unworkable> {
        if self.depth >= DEEPEST {
            return Err(Unworkable::TooDeep);
        }
        self.depth += 1;
        let value = if self.take(b'-') {
            self.signed().map(|value| -value)
        } else if self.take(b'+') {
            self.signed()
        } else {
            self.power()
        };
        self.depth -= 1;
        value
    }

    /// From the right: 2^3^2 is 2^9.
    fn power(&mut self) -> Result<f64, Unworkable> {
        let base = self.atom()?;
        let is_doubled = |rest: &[u8]| rest.starts_with(b"**");
        if self.take(b'^') {
            return Ok(base.powf(self.signed()?));
        }
        self.peek();
        if is_doubled(&self.text[self.at..]) {
            self.at += 2;
            return Ok(base.powf(self.signed()?));
        }
        Ok(base)
    }

    fn atom(&mut self) -> Result<f64, Unworkable> {
        match self.peek() {
            Some(b'(') => {
                self.at += 1;
                let value = self.sum()?;
                if self.take(b')') {
                    Ok(value)
                } else {
                    self.unexpected()
                }
            }
            Some(b'0'..=b'9' | b'.') => self.number(),
            Some(byte) if byte.is_ascii_alphabetic() => self.named(),
            Some(_) | None => self.unexpected(),
        }
    }

    fn number(&mut self) -> Result<f64, Unworkable> {
        let begin = self.at;
        let digits = |reader: &mut Self| {
            while reader.text.get(reader.at).is_some_and(u8::is_ascii_digit) {
                reader.at += 1;
            }
        };
        digits(self);
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            digits(self);
        }
        if let [b'e' | b'E', rest @ ..] = &self.text[self.at..] {
            let sign = usize::from(matches!(rest.first(), Some(b'+' | b'-')));
            // Without digits it is no exponent, and nothing that could follow a number either.
            if rest.get(sign).is_some_and(u8::is_ascii_digit) {
                self.at += 1 + sign;
                digits(self);
            }
        }
        let text = std::str::from_utf8(&self.text[begin..self.at]);
        text.ok()
            .and_then(|text| text.parse().ok())
            .ok_or(Unworkable::Unexpected(begin + 1))
    }

    fn named(&mut self) -> Result<f64, Unworkable> {
        let begin = self.at;
        while self
            .text
            .get(self.at)
            .is_some_and(u8::is_ascii_alphanumeric)
        {
            self.at += 1;
        }
        let name = String::from_utf8_lossy(&self.text[begin..self.at]).to_ascii_lowercase();
        if !self.take(b'(') {
            return match name.as_str() {
                "pi" => Ok(consts::PI),
                "e" => Ok(consts::E),
                _ => Err(Unworkable::Unknown(name)),
            };
        }
        let mut arguments = vec![self.sum()?];
        while self.take(b',') {
            arguments.push(self.sum()?);
        }
        if !self.take(b')') {
            return self.unexpected();
        }
        apply(name, &arguments)
    }
}

fn apply(name: String, arguments: &[f64]) -> Result<f64, Unworkable> {
    let of_one: fn(f64) -> f64 = match name.as_str() {
        "min" => return Ok(arguments.iter().copied().fold(f64::INFINITY, f64::min)),
        "max" => return Ok(arguments.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "sqrt" => f64::sqrt,
        "abs" => f64::abs,
        "round" => f64::round,
        "floor" => f64::floor,
        "ceil" => f64::ceil,
        "ln" => f64::ln,
        "log" | "log10" => f64::log10,
        "exp" => f64::exp,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tan" => f64::tan,
        _ => return Err(Unworkable::Unknown(name)),
    };
    match arguments {
        [one] => Ok(of_one(*one)),
        _ => Err(Unworkable::Arguments(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_is_worked_out_as_people_do() {
        for (expression, value) in [
            ("2 + 3 * 4", "14"),
            ("(2 + 3) * 4", "20"),
            ("0.1 + 0.2", "0.3"),
            ("-2^2", "-4"),
            ("2^3^2", "512"),
            ("2**10", "1024"),
            ("2^-1", "0.5"),
            ("10 % 4 - 7", "-5"),
            ("10 / 4", "2.5"),
            ("2 - -3", "5"),
            ("sqrt(16) + max(1, 2, 3) - MIN(4, 5)", "3"),
            ("round(2.5) + abs(-1) + floor(1.9) + ceil(1.1)", "7"),
            ("log10(1000) + ln(e) + exp(0)", "5"),
            ("cos(pi)", "-1"),
            ("1.5e3 * .5", "750"),
            ("9007199254740991", "9007199254740991"),
            ("2^100", "1.26765060022823e30"),
            ("1/3e10", "3.33333333333333e-11"),
            ("0 * -1", "0"),
        ] {
            assert_eq!(calculate(expression).unwrap(), value, "{expression}");
        }
    }

    #[test]
    fn what_cannot_be_worked_out_says_why() {
        let unknown = |name: &str| Unworkable::Unknown(name.to_owned());
        let arguments = |name: &str| Unworkable::Arguments(name.to_owned());
        for (expression, why) in [
            ("", Unworkable::Ended),
            ("2 +", Unworkable::Ended),
            ("(2", Unworkable::Ended),
            ("sqrt(", Unworkable::Ended),
            ("2 2", Unworkable::Unexpected(3)),
            ("2)", Unworkable::Unexpected(2)),
            (".", Unworkable::Unexpected(1)),
            ("1.2.3", Unworkable::Unexpected(4)),
            ("2e", Unworkable::Unexpected(2)),
            ("ä", Unworkable::Unexpected(1)),
            ("1\u{0}", Unworkable::Unexpected(2)),
            ("system(1)", unknown("system")),
            ("x + 1", unknown("x")),
            ("sqrt(1, 2)", arguments("sqrt")),
            ("1 / 0", Unworkable::NotFinite),
            ("sqrt(-1)", Unworkable::NotFinite),
            ("9^9^9", Unworkable::NotFinite),
        ] {
            assert_eq!(calculate(expression), Err(why), "{expression}");
        }
    }

    #[test]
    fn no_expression_is_worked_out_for_long_or_deep() {
        assert_eq!(calculate(&"1".repeat(513)), Err(Unworkable::TooLong));
        for deep in ["(", "-", "2^", "sqrt("] {
            let expression = deep.repeat(LONGEST / deep.len());
            assert_eq!(calculate(&expression), Err(Unworkable::TooDeep), "{deep}");
        }
        // Side by side is not deep.
        assert_eq!(
            calculate(&format!("0{}", "+(1)".repeat(100))).unwrap(),
            "100"
        );
    }
}
