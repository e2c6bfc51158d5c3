use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn allowance(requests: Option<u32>, tokens: Option<u32>) -> Allowance {
    let limits = KeyLimits {
        requests_per_minute: requests,
        tokens_per_minute: tokens,
    };
    Allowance::new(limits, Duration::ZERO)
}

#[test]
fn a_burst_is_let_in_then_one_per_interval() {
    let mut client = allowance(Some(6), None);
    for _ in 0..6 {
        assert_eq!(client.take_request(Duration::ZERO), Ok(()));
    }
    let refusal = client.take_request(Duration::ZERO);
    let ten = Duration::from_secs(10);
    assert_eq!(
        refusal,
        Err(Refusal::Requests {
            limit: 6,
            retry_after: ten
        })
    );
    assert_eq!(client.take_request(ten), Ok(()));
    assert!(client.take_request(ten + SECOND).is_err());
}

#[test]
fn answers_leave_debt_and_large_prompts_are_not_locked_out() {
    let mut client = allowance(None, Some(60));
    assert_eq!(client.take_tokens(600, Duration::ZERO), Ok(()));
    assert!(client.take_tokens(1, 539 * SECOND).is_err());
    assert_eq!(client.take_tokens(1, 542 * SECOND), Ok(()));
    client.charge_tokens(100, 542 * SECOND);
    assert!(client.take_tokens(1, 560 * SECOND).is_err());
}

#[test]
fn no_limit_and_time_running_backwards_are_harmless() {
    let mut client = allowance(None, None);
    client.charge_tokens(usize::MAX, SECOND);
    assert_eq!(client.take_tokens(usize::MAX, SECOND), Ok(()));
    assert_eq!(client.take_request(SECOND), Ok(()));
    let mut client = allowance(Some(1), Some(1));
    assert_eq!(client.take_request(10 * SECOND), Ok(()));
    assert!(client.take_request(Duration::ZERO).is_err());
}

proptest! {
    #[test]
    fn never_more_than_a_burst_and_the_rate(limit in 1u32..100, steps in prop::collection::vec(0u64..5_000, 1..200)) {
        let mut client = allowance(Some(limit), None);
        let (mut now, mut taken) = (Duration::ZERO, 0u32);
        for step in steps {
            now += Duration::from_millis(step);
            match client.take_request(now) {
                Ok(()) => taken += 1,
                Err(Refusal::Requests { retry_after, .. }) => {
                    prop_assert!(client.clone().take_request(now + retry_after).is_ok());
                }
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        let most = f64::from(limit) * (1.0 + now.as_secs_f64() / 60.0) + 1e-3;
        prop_assert!(f64::from(taken) <= most);
    }
}
