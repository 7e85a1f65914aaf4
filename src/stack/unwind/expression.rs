//! DWARF expressions of unwind tables: a stack of numbers, memory of the copy, and a limit on steps.

use gimli::{Encoding, EndianSlice, Format, LittleEndian, Operation};

use super::memory::{Memory, State, Stop};

/// Most operations of one expression.
const MAX_OPERATIONS: usize = 64;
/// Most numbers at a time.
const MAX_DEPTH: usize = 32;

/// Numbers of an evaluation.
struct Numbers {
    values: [u64; MAX_DEPTH],
    count: usize,
}

impl Numbers {
    fn push(&mut self, value: u64) -> Result<(), Stop> {
        *self.values.get_mut(self.count).ok_or(Stop::NoRule)? = value;
        self.count += 1;
        Ok(())
    }

    fn pop(&mut self) -> Result<u64, Stop> {
        self.count = self.count.checked_sub(1).ok_or(Stop::NoRule)?;
        self.values.get(self.count).copied().ok_or(Stop::NoRule)
    }

    fn pick(&self, depth: u8) -> Result<u64, Stop> {
        let at = self.count.checked_sub(usize::from(depth) + 1).ok_or(Stop::NoRule)?;
        self.values.get(at).copied().ok_or(Stop::NoRule)
    }
}

/// What `code` computes, with `initial` on the stack at first.
pub(super) fn evaluate(
    code: &[u8],
    initial: Option<u64>,
    state: &State,
    memory: &Memory<'_>,
) -> Result<u64, Stop> {
    let encoding = Encoding { format: Format::Dwarf32, version: 4, address_size: 8 };
    let mut numbers = Numbers { values: [0; MAX_DEPTH], count: 0 };
    initial.map_or(Ok(()), |value| numbers.push(value))?;
    let mut rest = EndianSlice::new(code, LittleEndian);
    for _ in 0..MAX_OPERATIONS {
        if rest.is_empty() {
            return numbers.pop();
        }
        let operation = Operation::parse(&mut rest, encoding).map_err(|_| Stop::NoRule)?;
        let jump = match operation {
            Operation::Skip { target } => Some(target),
            Operation::Bra { target } => (numbers.pop()? != 0).then_some(target),
            operation => {
                perform(operation, &mut numbers, state, memory)?;
                None
            }
        };
        if let Some(target) = jump {
            let at = code.len() - rest.len();
            let at = at.checked_add_signed(isize::from(target)).ok_or(Stop::NoRule)?;
            rest = EndianSlice::new(code.get(at..).ok_or(Stop::NoRule)?, LittleEndian);
        }
    }
    if rest.is_empty() { numbers.pop() } else { Err(Stop::NoRule) }
}

fn perform(
    operation: Operation<EndianSlice<'_, LittleEndian>>,
    numbers: &mut Numbers,
    state: &State,
    memory: &Memory<'_>,
) -> Result<(), Stop> {
    let shift = |by: u64| u32::try_from(by).unwrap_or(u32::MAX);
    let value = match operation {
        Operation::Nop => return Ok(()),
        Operation::Drop => return numbers.pop().map(drop),
        Operation::Swap => {
            let (top, below) = (numbers.pop()?, numbers.pop()?);
            numbers.push(top)?;
            below
        }
        Operation::Rot => {
            let (first, second, third) = (numbers.pop()?, numbers.pop()?, numbers.pop()?);
            numbers.push(first)?;
            numbers.push(third)?;
            second
        }
        Operation::Pick { index } => numbers.pick(index)?,
        Operation::UnsignedConstant { value } => value,
        Operation::SignedConstant { value } => value.cast_unsigned(),
        Operation::RegisterOffset { register, offset, .. } => {
            state.get(usize::from(register.0))?.wrapping_add_signed(offset)
        }
        Operation::Deref { size, space: false, .. } if (1..=8).contains(&size) => {
            memory.read(numbers.pop()?, size)?
        }
        Operation::PlusConstant { value } => numbers.pop()?.wrapping_add(value),
        Operation::Abs => numbers.pop()?.cast_signed().wrapping_abs().cast_unsigned(),
        Operation::Neg => numbers.pop()?.wrapping_neg(),
        Operation::Not => !numbers.pop()?,
        binary => {
            let (b, a) = (numbers.pop()?, numbers.pop()?);
            let (signed_b, signed_a) = (b.cast_signed(), a.cast_signed());
            match binary {
                Operation::And => a & b,
                Operation::Or => a | b,
                Operation::Xor => a ^ b,
                Operation::Plus => a.wrapping_add(b),
                Operation::Minus => a.wrapping_sub(b),
                Operation::Mul => a.wrapping_mul(b),
                Operation::Div => signed_a.checked_div(signed_b).ok_or(Stop::NoRule)?.cast_unsigned(),
                Operation::Mod => a.checked_rem(b).ok_or(Stop::NoRule)?,
                Operation::Shl => a.checked_shl(shift(b)).unwrap_or(0),
                Operation::Shr => a.checked_shr(shift(b)).unwrap_or(0),
                Operation::Shra => (signed_a >> shift(b).min(63)).cast_unsigned(),
                Operation::Eq => u64::from(a == b),
                Operation::Ne => u64::from(a != b),
                Operation::Ge => u64::from(signed_a >= signed_b),
                Operation::Gt => u64::from(signed_a > signed_b),
                Operation::Le => u64::from(signed_a <= signed_b),
                Operation::Lt => u64::from(signed_a < signed_b),
                _ => return Err(Stop::NoRule),
            }
        }
    };
    numbers.push(value)
}
