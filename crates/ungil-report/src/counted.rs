//! A number and its noun.

use ungil_advise::quantity;

/// `1 task`, `12,544 calls`.
pub fn counted(number: u64, noun: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {noun}{ending}", quantity::count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_is_singular() {
        assert_eq!(counted(0, "call"), "0 calls");
        assert_eq!(counted(1, "call"), "1 call");
        assert_eq!(counted(12_544, "call"), "12,544 calls");
    }
}
