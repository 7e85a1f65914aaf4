//! The messages of pprof (`profile.proto`), as far as we write or read them. Fields we have no use for are left out:
//! readers pass over them.

/// A profile. Strings are positions in `string_table`, whose first is empty.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// What the values of a sample are.
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// Stacks with their values.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Files; the first is the main program.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// Places in code.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// Functions.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// Strings.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// When it began, in nanoseconds since 1970.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// How long it lasted, in nanoseconds.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// What a period is of.
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// What one sample stands for.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Free text, by position.
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// Which value is shown first, by position of its type.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
}

/// What a value is, and its unit.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct ValueType {
    /// What.
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// In which unit.
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// Ids of its places, leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// Its values, one for each type.
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// What else is told of it.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A key with a text or a number.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Label {
    /// The key.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// The text, by position; 0 for none.
    #[prost(int64, tag = "2")]
    pub str: i64,
}

/// A file.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Mapping {
    /// Its id, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// First address behind it.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Its name.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// Whether its functions have names already.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
}

/// A place in code.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Its id, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// The file it lies in, 0 for none.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// Its address.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// The functions there: what was inlined first, its caller last.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
}

/// A line of a function.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Line {
    /// The function.
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
}

/// A function.
#[derive(Clone, Copy, PartialEq, Eq, prost::Message)]
pub struct Function {
    /// Its id, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// Its name for people.
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// Its name for the system; ours is the frame as the store has it.
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// The file it was written in.
    #[prost(int64, tag = "4")]
    pub filename: i64,
}

/// The comment that says that system names are frames in our grammar.
pub const COMMENT: &str = "fnscope: system names are frames as the store has them";
