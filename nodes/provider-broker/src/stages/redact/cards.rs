//! Numbers of payment cards: of a length and a beginning that cards have, with the right check digit (Luhn's algorithm,
//! ISO/IEC 7812-1), whole or in groups with a space or a hyphen between them.

/// How many digits there are.
const SHORTEST: usize = 13;
const LONGEST: usize = 19;

/// A digit, and where it stands.
#[derive(Clone, Copy)]
struct Digit {
    value: u8,
    at: usize,
}

/// Replaces the numbers of cards, and says how many there were; nothing if there are none.
pub(super) fn replace(text: &str, mark: &str) -> Option<(String, usize)> {
    let mut found = Vec::new();
    let (bytes, mut at) = (text.as_bytes(), 0);
    while at < bytes.len() {
        if !bytes[at].is_ascii_digit() {
            at += 1;
            continue;
        }
        let run = run(bytes, at);
        at = run.last().map_or(at, |last| last.at) + 1;
        in_run(bytes, &run, &mut found);
    }
    if found.is_empty() {
        return None;
    }
    let (mut cleaned, mut from) = (String::with_capacity(text.len()), 0);
    for (start, end) in &found {
        cleaned.push_str(&text[from..*start]);
        cleaned.push_str(mark);
        from = *end;
    }
    cleaned.push_str(&text[from..]);
    Some((cleaned, found.len()))
}

/// The digits from here on that have at most one space or hyphen between them.
fn run(bytes: &[u8], mut at: usize) -> Vec<Digit> {
    let mut digits = Vec::new();
    loop {
        match bytes.get(at) {
            Some(byte) if byte.is_ascii_digit() => digits.push(Digit { value: byte - b'0', at }),
            Some(b' ' | b'-') if bytes.get(at + 1).is_some_and(u8::is_ascii_digit) => {}
            _ => return digits,
        }
        at += 1;
    }
}

/// Looks for cards in a run: one begins and ends where a group does.
fn in_run(bytes: &[u8], run: &[Digit], found: &mut Vec<(usize, usize)>) {
    let begins = |i: usize| {
        let before = run[i].at.checked_sub(1).and_then(|at| bytes.get(at));
        before.is_none_or(|byte| !byte.is_ascii_alphanumeric())
    };
    let ends = |i: usize| bytes.get(run[i].at + 1).is_none_or(|byte| !byte.is_ascii_alphanumeric());
    let mut first = 0;
    while first + SHORTEST <= run.len() {
        let longest = LONGEST.min(run.len() - first);
        let card = begins(first).then(|| {
            (SHORTEST..=longest).rev().find(|n| ends(first + n - 1) && is_card(&run[first..first + n]))
        });
        match card.flatten() {
            Some(digits) => {
                found.push((run[first].at, run[first + digits - 1].at + 1));
                first += digits;
            }
            None => first += 1,
        }
    }
}

fn is_card(digits: &[Digit]) -> bool {
    issued(digits) && luhn(digits)
}

/// Whether cards of that length begin so.
fn issued(digits: &[Digit]) -> bool {
    let begin = digits.iter().take(4).fold(0_u32, |number, digit| number * 10 + u32::from(digit.value));
    match (begin, digits.len()) {
        // Visa.
        (4_000..=4_999, 13 | 16 | 19) => true,
        // Mastercard.
        (5_100..=5_599 | 2_221..=2_720, 16) => true,
        // American Express, Diners Club.
        (3_400..=3_499 | 3_700..=3_799, 15) => true,
        (3_000..=3_059 | 3_600..=3_699 | 3_800..=3_999, 14) => true,
        // JCB, Discover, UnionPay.
        (3_528..=3_589 | 6_011 | 6_200..=6_299 | 6_440..=6_599, 16..=19) => true,
        // Maestro.
        (5_000..=5_099 | 5_600..=5_899 | 6_700..=6_799, _) => true,
        _ => false,
    }
}

fn luhn(digits: &[Digit]) -> bool {
    let value = |(i, digit): (usize, &Digit)| match (i % 2, u32::from(digit.value)) {
        (0, value) => value,
        (_, value) if value > 4 => value * 2 - 9,
        (_, value) => value * 2,
    };
    digits.iter().rev().enumerate().map(value).sum::<u32>().is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(text: &str) -> String {
        replace(text, "#").map_or_else(|| text.to_owned(), |(text, _)| text)
    }

    #[test]
    fn the_test_numbers_of_the_card_schemes_are_found() {
        for card in [
            "4111111111111111",
            "4222222222222",
            "5555555555554444",
            "2223003122003222",
            "378282246310005",
            "30569309025904",
            "38520000023237",
            "6011111111111117",
            "3530111333300000",
            "6200000000000005",
        ] {
            assert_eq!(clean(card), "#", "{card}");
            assert_eq!(clean(&format!("({card}).")), "(#).", "{card}");
            let last = card.chars().last().unwrap().to_digit(10).unwrap();
            let wrong = format!("{}{}", &card[..card.len() - 1], (last + 1) % 10);
            assert_eq!(clean(&wrong), wrong, "a wrong check digit");
            assert_eq!(clean(&format!("x{card}")), format!("x{card}"), "a part of a word");
            assert_eq!(clean(&format!("{card}00000000")), format!("{card}00000000"), "a part of a number");
        }
    }

    #[test]
    fn cards_are_found_in_groups_and_beside_other_numbers() {
        assert_eq!(clean("4111 1111 1111 1111"), "#");
        assert_eq!(clean("4111-1111-1111-1111"), "#");
        assert_eq!(clean("3782 822463 10005"), "#");
        assert_eq!(clean("no 12 4111 1111 1111 1111 99 and 5555555555554444"), "no 12 # 99 and #");
        assert_eq!(clean("4111111111111111 5555555555554444"), "# #");
        let apart = "4111  1111  1111  1111";
        assert_eq!(clean(apart), apart);
        assert_eq!(clean("ä4111111111111111ö"), "ä#ö");
    }
}
