//! Student's t: how far a mean of few figures may be off.

/// The point that Student's t with `freedom` degrees of freedom does not exceed in 97.5 % of cases; not a number for none.
/// Beyond the table 1.96 + 2.4 / freedom, which is right to a hundredth.
pub fn student_t(freedom: usize) -> f64 {
    const TABLE: [f64; 16] = [
        f64::NAN,
        12.706,
        4.303,
        3.182,
        2.776,
        2.571,
        2.447,
        2.365,
        2.306,
        2.262,
        2.228,
        2.201,
        2.179,
        2.160,
        2.145,
        2.131,
    ];
    TABLE.get(freedom).copied().unwrap_or(1.96 + 2.4 / freedom as f64)
}
