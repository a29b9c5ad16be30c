//! Exact amounts of money, added up per currency.

use std::fmt;

/// An amount in 10^-12 of its currency's unit: the cost of one token at the finest
/// [`Rate`](super::Rate).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Amount(u128);

/// Amounts per unit of a currency.
const UNIT: u128 = 1_000_000_000_000;

impl Amount {
    /// One unit of its currency.
    pub const ONE: Self = Self(UNIT);

    pub(super) fn new(units: u128) -> Self {
        Self(units)
    }

    /// The amount of this many smallest amounts.
    pub fn of_smallest(units: u128) -> Self {
        Self(units)
    }

    /// The number of smallest amounts.
    pub fn smallest(self) -> u128 {
        self.0
    }

    /// The sum, saturated at the largest amount.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The nearest floating-point number, for JSON and charts.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::MAX)
    }

    /// The amount with at most this number of decimals. Rounds up, so that only nothing is 0.
    pub fn rounded_up(self, decimals: usize) -> String {
        let step = 10_u128.pow(12 - decimals.min(12) as u32);
        Self(self.0.div_ceil(step).saturating_mul(step)).to_string()
    }

    /// The amount with this number of decimals, at most 12. Rounds half up.
    pub fn rounded(self, decimals: usize) -> String {
        let step = 10_u128.pow(12 - decimals.min(12) as u32);
        let rounded = Self((self.0.saturating_add(step / 2)) / step * step);
        let text = format!("{}.{:012}", rounded.0 / UNIT, rounded.0 % UNIT);
        let end = text.len() - (12 - decimals.min(12));
        text[..end].trim_end_matches('.').to_owned()
    }
}

impl fmt::Display for Amount {
    /// Prints all decimals up to the last one that is not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{:012}", self.0 / UNIT, self.0 % UNIT);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A cost in US dollars that a service reported, exact to 18 decimals.
///
/// The amount is never added to an [`Amount`], which is computed from configured prices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reported(u128);

impl Reported {
    /// The number of decimals kept.
    pub const DECIMALS: usize = 18;

    /// Parses a non-negative number with decimals, an exponent, or both, and cuts off further
    /// decimals. `None` if it is not such a number, or too large.
    pub fn parse(text: &str) -> Option<Self> {
        let (number, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let is_number = !whole.is_empty()
            && [whole, fraction].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()));
        let exponent =
            exponent.strip_prefix('+').unwrap_or(exponent).parse::<i32>().ok().filter(|_| is_number)?;
        let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
        let fraction = i32::try_from(fraction.len()).ok()?;
        let shift = exponent.checked_sub(fraction)?.checked_add(Self::DECIMALS as i32)?;
        let power = 10_u128.checked_pow(shift.unsigned_abs());
        match power {
            Some(power) if shift < 0 => Some(Self(digits / power)),
            Some(power) => digits.checked_mul(power).map(Self),
            None if shift < 0 || digits == 0 => Some(Self(0)),
            None => None,
        }
    }

    /// The cost of this many smallest units.
    pub fn of_smallest(units: u128) -> Self {
        Self(units)
    }

    /// The number of smallest units.
    pub fn smallest(self) -> u128 {
        self.0
    }

    /// The sum, saturated at the largest value.
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The nearest floating-point number, for JSON.
    pub fn to_f64(self) -> f64 {
        self.to_string().parse().unwrap_or(f64::MAX)
    }
}

impl fmt::Display for Reported {
    /// Prints all decimals up to the last one that is not 0.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = 10_u128.pow(Self::DECIMALS as u32);
        let text = format!("{}.{:0decimals$}", self.0 / one, self.0 % one, decimals = Self::DECIMALS);
        f.write_str(text.trim_end_matches('0').trim_end_matches('.'))
    }
}

/// A currency by its three-letter code (ISO 4217), such as `USD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

impl Currency {
    /// Parses the code, in capitals.
    pub fn parse(text: &str) -> Option<Self> {
        let code: [u8; 3] = text.as_bytes().try_into().ok()?;
        code.iter().all(u8::is_ascii_uppercase).then_some(Self(code))
    }

    /// The sign printed before an amount; empty if the currency has no sign of its own.
    pub fn sign(&self) -> &'static str {
        match self.as_str() {
            "USD" => "$",
            "EUR" => "€",
            "GBP" => "£",
            "JPY" | "CNY" => "¥",
            "INR" => "₹",
            "KRW" => "₩",
            "AUD" => "A$",
            "CAD" => "C$",
            "BRL" => "R$",
            _ => "",
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The cost of requests: an amount in each currency, and the number of requests without a price.
///
/// The first currency is stored inline, since most users have one. A cost is small, since each use of
/// a limit has one, mostly an empty one.
#[derive(Clone, Debug, Default)]
pub struct Cost {
    /// The amount in `currency`; 0 if there is none.
    first: Amount,
    currency: Option<Currency>,
    others: Box<[(Currency, Amount)]>,
    /// Requests with token counts but no price. No amount includes their cost.
    pub unpriced: u64,
}

impl Cost {
    /// The amount in a currency. `None` if nothing was paid in it, which differs from 0.
    pub fn amount(&self, currency: Currency) -> Option<Amount> {
        self.amounts().find(|(known, _)| *known == currency).map(|(_, amount)| amount)
    }

    /// All amounts, in no particular order.
    pub fn amounts(&self) -> impl Iterator<Item = (Currency, Amount)> {
        let first = self.currency.map(|currency| (currency, self.first));
        first.into_iter().chain(self.others.iter().copied())
    }

    /// Adds an amount.
    pub fn pay(&mut self, currency: Currency, amount: Amount) {
        if *self.currency.get_or_insert(currency) == currency {
            self.first = self.first.plus(amount);
            return;
        }
        match self.others.iter_mut().find(|(known, _)| *known == currency) {
            Some((_, sum)) => *sum = sum.plus(amount),
            None => self.others = self.others.iter().copied().chain([(currency, amount)]).collect(),
        }
    }

    /// Adds the amounts and counts of another cost.
    pub fn add(&mut self, other: &Self) {
        other.amounts().for_each(|(currency, amount)| self.pay(currency, amount));
        self.unpriced += other.unpriced;
    }
}

impl PartialEq for Cost {
    fn eq(&self, other: &Self) -> bool {
        self.unpriced == other.unpriced
            && self.amounts().count() == other.amounts().count()
            && self.amounts().all(|(currency, amount)| other.amount(currency) == Some(amount))
    }
}

#[cfg(test)]
mod tests;
