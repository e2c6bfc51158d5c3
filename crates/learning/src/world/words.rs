//! The words of the small world: who and what there is. Plain vocabulary, no grammar: the only
//! thing that the generator and the [checker](crate::checker) have in common.
//!
//! All words are lower case; sentences capitalise names.

/// A person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Person {
    /// The name.
    pub name: &'static str,
    /// Whether the person is a `he`; else a `she`.
    pub he: bool,
}

/// A place, with the preposition of being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The noun.
    pub name: &'static str,
    /// `in` or `at`.
    pub at: &'static str,
}

/// Something to hold in a hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thing {
    /// One of them.
    pub one: &'static str,
    /// Several; the same word where they are not counted.
    pub many: &'static str,
}

/// The people: eight of each gender.
pub const PERSONS: [Person; 16] = [
    he("tom"),
    he("ben"),
    he("max"),
    he("sam"),
    he("leo"),
    he("jack"),
    he("paul"),
    he("nick"),
    she("anna"),
    she("mia"),
    she("lily"),
    she("emma"),
    she("kate"),
    she("rosa"),
    she("nina"),
    she("ella"),
];

/// Where people go.
pub const PLACES: [Place; 12] = [
    place("kitchen", "in"),
    place("garden", "in"),
    place("park", "in"),
    place("forest", "in"),
    place("barn", "in"),
    place("library", "in"),
    place("house", "in"),
    place("school", "at"),
    place("market", "at"),
    place("river", "at"),
    place("beach", "at"),
    place("station", "at"),
];

/// What people carry: first what can be counted, then, from [`COUNTABLE`] on, what cannot.
pub const THINGS: [Thing; 28] = [
    thing("ball", "balls"),
    thing("book", "books"),
    thing("cup", "cups"),
    thing("key", "keys"),
    thing("apple", "apples"),
    thing("hat", "hats"),
    thing("lamp", "lamps"),
    thing("coin", "coins"),
    thing("stone", "stones"),
    thing("feather", "feathers"),
    thing("spoon", "spoons"),
    thing("bell", "bells"),
    thing("kite", "kites"),
    thing("drum", "drums"),
    thing("doll", "dolls"),
    thing("umbrella", "umbrellas"),
    thing("candle", "candles"),
    thing("ring", "rings"),
    thing("shell", "shells"),
    thing("leaf", "leaves"),
    thing("stick", "sticks"),
    thing("pear", "pears"),
    thing("flower", "flowers"),
    thing("balloon", "balloons"),
    thing("ice", "ice"),
    thing("snow", "snow"),
    thing("butter", "butter"),
    thing("chocolate", "chocolate"),
];

/// How many of [`THINGS`] can be counted.
pub const COUNTABLE: usize = 24;

/// What things are put into.
pub const CONTAINERS: [&str; 5] = ["box", "bag", "basket", "chest", "bucket"];

/// Colours of things.
pub const COLOURS: [&str; 7] = ["red", "blue", "green", "yellow", "white", "black", "brown"];

/// What makes people in stories do something: each a word that says it.
pub const CAUSES: [&str; 17] = [
    "rain", "wind", "hot", "hungry", "thirsty", "tired", "cold", "read", "swim", "bread", "train",
    "animals", "play", "learn", "dark", "locked", "music",
];

/// What is compared by size, each larger than all of an earlier row.
pub const SIZES: [&[&str]; 6] = [
    &["ant", "bee", "fly"],
    &["mouse", "snail", "frog"],
    &["cat", "rabbit", "hen"],
    &["dog", "sheep", "goat"],
    &["horse", "cow", "bear"],
    &["house", "tree", "ship"],
];

/// What is compared by weight, each heavier than all of an earlier row.
pub const WEIGHTS: [&[&str]; 4] = [
    &["feather", "leaf", "balloon", "flower"],
    &["apple", "book", "cup", "bell"],
    &["dog", "chair", "sheep", "goat"],
    &["horse", "cow", "bear", "cart"],
];

/// The commands of Skein that are talked about.
pub const COMMANDS: [&str; 16] = [
    "skein up",
    "skein chat",
    "skein run",
    "skein serve",
    "skein status",
    "skein node",
    "skein model split",
    "skein model verify",
    "skein model inspect",
    "skein model fetch",
    "skein model export",
    "skein train",
    "skein keys new",
    "skein bench",
    "skein config",
    "skein completions",
];

const fn he(name: &'static str) -> Person {
    Person { name, he: true }
}

const fn she(name: &'static str) -> Person {
    Person { name, he: false }
}

const fn place(name: &'static str, at: &'static str) -> Place {
    Place { name, at }
}

const fn thing(one: &'static str, many: &'static str) -> Thing {
    Thing { one, many }
}
