//! Why people in stories do what they do.

/// A cause. Its clause is told and given as the answer; its key is what an answer must contain.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cause {
    /// The clause, `{he}` for the person.
    pub(super) clause: &'static str,
    /// The word of [`CAUSES`](crate::world::words::CAUSES) in it.
    pub(super) key: &'static str,
}

/// A cause to go somewhere, and the places that it leads to.
pub(super) struct Errand {
    pub(super) cause: Cause,
    /// Where it can arise; nowhere that it leads to already.
    from: Option<&'static [&'static str]>,
    pub(super) places: &'static [&'static str],
}

/// A cause to take something, and the things that it makes one take.
pub(super) struct Need {
    pub(super) cause: Cause,
    /// Where it can arise.
    at: Option<&'static [&'static str]>,
    pub(super) things: &'static [&'static str],
}

impl Errand {
    /// Whether it can make somebody leave a place.
    pub(super) fn arises_at(&self, place: &str) -> bool {
        self.from.is_none_or(|from| from.contains(&place)) && !self.places.contains(&place)
    }
}

impl Need {
    /// Whether it can be felt at a place.
    pub(super) fn arises_at(&self, place: &str) -> bool {
        self.at.is_none_or(|at| at.contains(&place))
    }
}

/// Whether two causes cannot be in one story.
pub(super) fn contrary(one: &str, other: &str) -> bool {
    const PAIRS: [[&str; 2]; 3] = [["hot", "rain"], ["hot", "cold"], ["hot", "dark"]];
    PAIRS.contains(&[one, other]) || PAIRS.contains(&[other, one])
}

/// Where there is no roof.
const OUTSIDE: &[&str] = &["garden", "park", "forest", "market", "river", "beach"];
/// Where the sun shines, and no water is near.
const SUNNY: &[&str] = &["garden", "park", "market"];
/// Where a door can be locked.
const WITH_DOORS: &[&str] = &["barn", "library", "house", "school", "station"];

pub(super) const ERRANDS: [Errand; 14] = [
    weather(
        "it began to rain",
        "rain",
        OUTSIDE,
        &["house", "barn", "library"],
    ),
    weather("the wind was strong", "wind", OUTSIDE, &["house", "barn"]),
    weather(
        "the sun was hot",
        "hot",
        SUNNY,
        &["river", "forest", "beach"],
    ),
    errand("{he} was hungry", "hungry", &["kitchen", "market"]),
    errand("{he} was thirsty", "thirsty", &["kitchen", "river"]),
    errand("{he} was tired", "tired", &["house"]),
    errand("{he} was cold", "cold", &["house", "kitchen"]),
    errand("{he} wanted to read", "read", &["library", "school"]),
    errand("{he} wanted to swim", "swim", &["river", "beach"]),
    errand("{he} wanted to buy bread", "bread", &["market"]),
    errand("{he} wanted to see the train", "train", &["station"]),
    errand("{he} wanted to see the animals", "animals", &["barn"]),
    errand("{he} wanted to play", "play", &["park", "garden"]),
    errand("{he} wanted to learn", "learn", &["school"]),
];

pub(super) const NEEDS: [Need; 12] = [
    need("it was dark", "dark", None, &["lamp", "candle"]),
    need("it began to rain", "rain", Some(OUTSIDE), &["umbrella"]),
    need("the sun was hot", "hot", Some(SUNNY), &["hat"]),
    need("the wind was strong", "wind", Some(OUTSIDE), &["kite"]),
    need("the door was locked", "locked", Some(WITH_DOORS), &["key"]),
    need("{he} was cold", "cold", None, &["hat"]),
    need("{he} was hungry", "hungry", None, &["apple", "pear"]),
    need("{he} was thirsty", "thirsty", None, &["cup"]),
    need("{he} wanted to read", "read", None, &["book"]),
    need(
        "{he} wanted to play",
        "play",
        None,
        &["ball", "doll", "balloon"],
    ),
    need(
        "{he} wanted to make music",
        "music",
        None,
        &["drum", "bell"],
    ),
    need("{he} wanted to buy bread", "bread", None, &["coin"]),
];

const fn errand(
    clause: &'static str,
    key: &'static str,
    places: &'static [&'static str],
) -> Errand {
    Errand {
        cause: Cause { clause, key },
        from: None,
        places,
    }
}

const fn weather(
    clause: &'static str,
    key: &'static str,
    from: &'static [&'static str],
    places: &'static [&'static str],
) -> Errand {
    Errand {
        cause: Cause { clause, key },
        from: Some(from),
        places,
    }
}

const fn need(
    clause: &'static str,
    key: &'static str,
    at: Option<&'static [&'static str]>,
    things: &'static [&'static str],
) -> Need {
    let cause = Cause { clause, key };
    Need { cause, at, things }
}
