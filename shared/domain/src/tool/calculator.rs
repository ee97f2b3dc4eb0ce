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

/// The value of `expression`, as it is written down: whole numbers exactly as long as an `i128` holds them and all before
/// them, and what is not exact says so.
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
        None => value.written(),
        Some(_) => Err(Unworkable::Unexpected(reader.at + 1)),
    }
}

/// The whole numbers below this are all floats.
const SURE: f64 = 9_007_199_254_740_992.0;
/// How many digits a float is sure of.
const DIGITS: usize = 15;
/// What follows a number that is not exact.
const ROUNDED: &str = " (rounded)";

/// A number.
#[derive(Debug, Clone, Copy)]
enum Number {
    /// A whole one, exactly.
    Whole(i128),
    /// Any, or about: whether more was lost of it than its last digits.
    Float(f64, bool),
}

impl Number {
    /// As a float, and whether something was lost of it, now or before.
    #[expect(
        clippy::cast_precision_loss,
        reason = "what does not fit is said to be rounded"
    )]
    const fn float(self) -> (f64, bool) {
        match self {
            Self::Whole(value) => (value as f64, !fits(value)),
            Self::Float(value, is_rounded) => (value, is_rounded),
        }
    }

    /// What `float`, which gives whole numbers, makes of this.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "what does not fit stays as it is"
    )]
    fn whole(self, float: fn(f64) -> f64) -> Self {
        let (value, is_rounded) = match self {
            Self::Whole(_) => return self,
            Self::Float(value, is_rounded) => (float(value), is_rounded),
        };
        if value.abs() < SURE && !is_rounded {
            Self::Whole(value as i128)
        } else {
            Self::Float(value, true)
        }
    }

    /// What `float` makes of this.
    fn apply(self, float: fn(f64) -> f64) -> Self {
        let (value, is_rounded) = self.float();
        Self::Float(float(value), is_rounded)
    }

    /// What comes of two whole numbers, if that is one, or of two floats.
    fn with(
        self,
        other: Self,
        whole: fn(i128, i128) -> Option<i128>,
        float: fn(f64, f64) -> f64,
    ) -> Self {
        if let (Self::Whole(one), Self::Whole(other)) = (self, other)
            && let Some(value) = whole(one, other)
        {
            return Self::Whole(value);
        }
        let ((one, one_is_rounded), (other, other_is_rounded)) = (self.float(), other.float());
        Self::Float(float(one, other), one_is_rounded || other_is_rounded)
    }

    /// The same of a sum or a remainder, in which what large numbers have lost may be all that is left.
    fn sum(
        self,
        other: Self,
        whole: fn(i128, i128) -> Option<i128>,
        float: fn(f64, f64) -> f64,
    ) -> Self {
        match self.with(other, whole, float) {
            Self::Float(value, is_rounded) => {
                let all = [self.float().0, other.float().0, value];
                let is_sure = all.iter().all(|value| value.abs() < SURE);
                Self::Float(value, is_rounded || !is_sure)
            }
            whole @ Self::Whole(_) => whole,
        }
    }

    fn power(self, exponent: Self) -> Self {
        let whole = |base: i128, exponent: i128| base.checked_pow(exponent.try_into().ok()?);
        self.with(exponent, whole, f64::powf)
    }

    fn abs(self) -> Self {
        let whole = match self {
            Self::Whole(value) => value.checked_abs(),
            Self::Float(..) => None,
        };
        whole.map_or_else(|| self.apply(f64::abs), Self::Whole)
    }

    fn root(self) -> Self {
        match self {
            Self::Whole(value) => match root(value) {
                Some(root) => Self::Whole(root),
                // The root of a whole number is whole or goes on for ever.
                None => Self::Float(self.float().0.sqrt(), true),
            },
            Self::Float(..) => self.apply(f64::sqrt),
        }
    }

    /// As people write it: 15 digits, as many as a float is sure of, so that 0.1 + 0.2 is 0.3.
    fn written(self) -> Result<String, Unworkable> {
        let (value, is_rounded) = match self {
            Self::Whole(value) => return Ok(value.to_string()),
            Self::Float(value, is_rounded) if value.is_finite() => (value, is_rounded),
            Self::Float(..) => return Err(Unworkable::NotFinite),
        };
        let is_whole = value.fract() == 0.0;
        if is_whole && value.abs() < SURE {
            // There is no negative zero to people.
            let written = format!("{:.0}", value + 0.0);
            return Ok(if is_rounded {
                written + ROUNDED
            } else {
                written
            });
        }
        let digits = format!("{value:.*e}", DIGITS - 1);
        let rounded: f64 = digits.parse().unwrap_or(value);
        let size = rounded.abs();
        // One that needs fewer digits, but for what floats cannot help.
        let is_short = digits
            .split_once('e')
            .is_some_and(|(digits, _)| digits.ends_with('0'))
            && (rounded - value).abs() <= 4.0 * f64::EPSILON * size;
        let written = if (1e-9..1e21).contains(&size) {
            format!("{rounded}")
        } else {
            format!("{rounded:e}")
        };
        Ok(if is_short && !is_whole && !is_rounded {
            written
        } else {
            written + ROUNDED
        })
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

    fn sum(&mut self) -> Result<Number, Unworkable> {
        let mut value = self.product()?;
        loop {
            if self.take(b'+') {
                value = value.sum(self.product()?, i128::checked_add, |a, b| a + b);
            } else if self.take(b'-') {
                value = value.sum(self.product()?, i128::checked_sub, |a, b| a - b);
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Number, Unworkable> {
        let mut value = self.signed()?;
        loop {
            if self.take(b'*') {
                value = value.with(self.signed()?, i128::checked_mul, |a, b| a * b);
            } else if self.take(b'/') {
                value = value.with(self.signed()?, divided, |a, b| a / b);
            } else if self.take(b'%') {
                value = value.sum(self.signed()?, i128::checked_rem, |a, b| a % b);
            } else {
                return Ok(value);
            }
        }
    }

    /// A sign binds less than a power: -2^2 is -4.
    fn signed(&mut self) -> Result<Number, Unworkable> {
        if self.depth >= DEEPEST {
            return Err(Unworkable::TooDeep);
        }
        self.depth += 1;
        let value = if self.take(b'-') {
            self.signed().map(negated)
        } else if self.take(b'+') {
            self.signed()
        } else {
            self.power()
        };
        self.depth -= 1;
        value
    }

    /// From the right: 2^3^2 is 2^9.
    fn power(&mut self) -> Result<Number, Unworkable> {
        let base = self.atom()?;
        let is_doubled = |rest: &[u8]| rest.starts_with(b"**");
        if self.take(b'^') {
            return Ok(base.power(self.signed()?));
        }
        self.peek();
        if is_doubled(&self.text[self.at..]) {
            self.at += 2;
            return Ok(base.power(self.signed()?));
        }
        Ok(base)
    }

    fn atom(&mut self) -> Result<Number, Unworkable> {
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

    fn number(&mut self) -> Result<Number, Unworkable> {
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
        let text = std::str::from_utf8(&self.text[begin..self.at]).unwrap_or_default();
        if let Ok(whole) = text.parse() {
            return Ok(Number::Whole(whole));
        }
        let value = text
            .parse()
            .map_err(|_| Unworkable::Unexpected(begin + 1))?;
        Ok(Number::Float(value, digits_of(text) > DIGITS))
    }

    fn named(&mut self) -> Result<Number, Unworkable> {
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
                "pi" => Ok(Number::Float(consts::PI, false)),
                "e" => Ok(Number::Float(consts::E, false)),
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

/// Whether a float holds `value` exactly.
const fn fits(value: i128) -> bool {
    let value = value.unsigned_abs();
    value.leading_zeros() + value.trailing_zeros() >= u128::BITS - f64::MANTISSA_DIGITS
}

/// How many digits the number `text` has, without the zeros that it begins and ends with.
fn digits_of(text: &str) -> usize {
    let digits = text.split(['e', 'E']).next().unwrap_or_default();
    let digits = digits.replace('.', "");
    digits.trim_matches('0').len()
}

/// `one` by `other`, if that is whole.
const fn divided(one: i128, other: i128) -> Option<i128> {
    match one.checked_rem(other) {
        Some(0) => one.checked_div(other),
        Some(_) | None => None,
    }
}

fn negated(value: Number) -> Number {
    Number::Whole(0).with(value, i128::checked_sub, |_, value| -value)
}

fn smaller(one: Number, other: Number) -> Number {
    one.with(other, |a, b| Some(a.min(b)), f64::min)
}

fn larger(one: Number, other: Number) -> Number {
    one.with(other, |a, b| Some(a.max(b)), f64::max)
}

/// The root of `value`, if that is whole.
fn root(value: i128) -> Option<i128> {
    let root = value.checked_isqrt()?;
    (root.checked_mul(root)? == value).then_some(root)
}

fn apply(name: String, arguments: &[Number]) -> Result<Number, Unworkable> {
    let of_one: fn(f64) -> f64 = match (name.as_str(), arguments) {
        ("min", [first, rest @ ..]) => return Ok(rest.iter().copied().fold(*first, smaller)),
        ("max", [first, rest @ ..]) => return Ok(rest.iter().copied().fold(*first, larger)),
        ("round", [one]) => return Ok(one.whole(f64::round)),
        ("floor", [one]) => return Ok(one.whole(f64::floor)),
        ("ceil", [one]) => return Ok(one.whole(f64::ceil)),
        ("abs", [one]) => return Ok(one.abs()),
        ("sqrt", [one]) => return Ok(one.root()),
        ("round" | "floor" | "ceil" | "abs" | "sqrt", _) => {
            return Err(Unworkable::Arguments(name));
        }
        ("ln", _) => f64::ln,
        ("log" | "log10", _) => f64::log10,
        ("exp", _) => f64::exp,
        ("sin", _) => f64::sin,
        ("cos", _) => f64::cos,
        ("tan", _) => f64::tan,
        _ => return Err(Unworkable::Unknown(name)),
    };
    match arguments {
        [one] => Ok(one.apply(of_one)),
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
            ("2^100", "1267650600228229401496703205376"),
            ("1/3e10", "3.33333333333333e-11 (rounded)"),
            ("0 * -1", "0"),
            ("-0.0", "0"),
            ("-0", "0"),
        ] {
            assert_eq!(calculate(expression).unwrap(), value, "{expression}");
        }
    }

    #[test]
    fn whole_numbers_are_exact_while_they_fit_and_what_is_not_says_so() {
        for (expression, value) in [
            ("123456789 * 987654321", "121932631112635269"),
            ("123456789 * 987654321 * 0 + 2^64", "18446744073709551616"),
            ("9007199254740993", "9007199254740993"),
            ("9007199254740993 + 2", "9007199254740995"),
            ("-9007199254740993 - 2", "-9007199254740995"),
            ("(2^64 + 1) % 2", "1"),
            ("(2^64 + 2) / 2", "9223372036854775809"),
            ("sqrt(2^64) + abs(-2^64)", "18446744078004518912"),
            ("max(2^64, 2^64 + 1) - min(2^64, 2^64 + 1)", "1"),
            ("round(2^64 + 1) - floor(2^64)", "1"),
            ("floor(2.5) * 9007199254740993", "18014398509481986"),
            ("2^127", "1.70141183460469e38 (rounded)"),
            ("2^126 * 4", "3.40282366920938e38 (rounded)"),
            ("2^64 + 0.5", "18446744073709600000 (rounded)"),
            ("1 / 3", "0.333333333333333 (rounded)"),
            ("2^0.5", "1.4142135623731 (rounded)"),
            ("9007199254740993.0", "9007199254740990 (rounded)"),
            ("1e22", "1e22 (rounded)"),
            ("1 / 8", "0.125"),
            ("(2^64 + 2^20) / 2^65", "0.500000000000028 (rounded)"),
            ("2^64 / 2^65", "0.5"),
            ("6.02e23 / 1e20", "6020"),
            ("2^-1074 * 0", "0"),
        ] {
            assert_eq!(calculate(expression).unwrap(), value, "{expression}");
        }
    }

    #[test]
    fn what_was_lost_on_the_way_makes_the_result_rounded() {
        for (expression, value) in [
            ("floor((10^17 - 1) / 100)", "1000000000000000 (rounded)"),
            ("9007199254740993 / 2", "4503599627370496 (rounded)"),
            ("round(9007199254740993 / 2)", "4503599627370496 (rounded)"),
            ("(2^64 + 1) / 2^60", "16 (rounded)"),
            ("sqrt(10^16 + 1)", "100000000 (rounded)"),
            ("sqrt(2^52 + 1)", "67108864 (rounded)"),
            ("-abs(sqrt(10^16 + 1))", "-100000000 (rounded)"),
            ("9007199254740993 - 0.5 - 9007199254740000", "992 (rounded)"),
            ("9007199254740992 + 0.5 - 9007199254740000", "992 (rounded)"),
            ("9007199254740993.0 - 9007199254740000", "992 (rounded)"),
            (
                "floor(9007199254740993.0 / 4)",
                "2251799813685248 (rounded)",
            ),
            ("1e23 % 7", "1 (rounded)"),
            ("max(sqrt(10^16 + 1), 1)", "100000000 (rounded)"),
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
