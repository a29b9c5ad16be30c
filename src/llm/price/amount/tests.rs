use super::*;

#[test]
fn amounts_are_written_exactly_and_rounded_half_up() {
    for (units, text, two, none) in [
        (0, "0", "0.00", "0"),
        (1, "0.000000000001", "0.00", "0"),
        (UNIT, "1", "1.00", "1"),
        (UNIT / 2, "0.5", "0.50", "1"),
        (UNIT * 5 / 1000, "0.005", "0.01", "0"),
        (UNIT * 1999 / 1000, "1.999", "2.00", "2"),
        (123_456_789 * UNIT + 7, "123456789.000000000007", "123456789.00", "123456789"),
    ] {
        let amount = Amount(units);
        assert_eq!(
            (amount.to_string().as_str(), amount.rounded(2).as_str(), amount.rounded(0).as_str()),
            (text, two, none)
        );
    }
    assert_eq!(Amount(UNIT / 10 + UNIT / 5).to_f64(), 0.3, "no 0.30000000000000004");
    assert_eq!(Amount(u128::MAX).plus(Amount(1)), Amount(u128::MAX));
    assert_eq!(Amount(7).rounded(12), "0.000000000007");
}

#[test]
fn reported_costs_are_read_to_18_decimals() {
    for (text, expected) in [
        ("0", Some("0")),
        ("0.0002444", Some("0.0002444")),
        ("2.8e-08", Some("0.000000028")),
        ("1E+2", Some("100")),
        ("12.50", Some("12.5")),
        ("1e-19", Some("0")),
        ("1e-99", Some("0")),
        ("0e99", Some("0")),
        ("1e99", None),
        ("", None),
        (".5", None),
        ("-1", None),
        ("1.2.3", None),
        ("1e", None),
        ("NaN", None),
    ] {
        assert_eq!(Reported::parse(text).map(|cost| cost.to_string()).as_deref(), expected, "{text}");
    }
    let sum = Reported::parse("0.1").unwrap().plus(Reported::parse("0.2").unwrap());
    assert_eq!((sum.to_string().as_str(), sum.to_f64()), ("0.3", 0.3));
}

#[test]
fn currency_has_three_capital_letters() {
    assert_eq!(Currency::parse("EUR").unwrap().to_string(), "EUR");
    for text in ["", "usd", "US", "USDT", "U$D", "€"] {
        assert_eq!(Currency::parse(text), None, "{text}");
    }
}

#[test]
fn each_currency_is_added_up_by_itself() {
    let [usd, eur, jpy] = ["USD", "EUR", "JPY"].map(|code| Currency::parse(code).unwrap());
    let mut cost = Cost::default();
    assert_eq!(cost.amount(usd), None);
    cost.pay(usd, Amount(1));
    cost.pay(eur, Amount(0));
    let mut other = Cost { unpriced: 2, ..Cost::default() };
    other.pay(eur, Amount(5));
    other.pay(usd, Amount(2));
    let mut turned = other.clone();
    cost.add(&other);
    assert_eq!(
        (cost.amount(usd), cost.amount(eur), cost.amount(jpy)),
        (Some(Amount(3)), Some(Amount(5)), None)
    );
    assert_eq!(cost.unpriced, 2);
    turned.pay(usd, Amount(1));
    assert_eq!(cost, turned, "whatever came first");
    turned.pay(jpy, Amount(0));
    assert_ne!(cost, turned, "0 is not nothing");
}
