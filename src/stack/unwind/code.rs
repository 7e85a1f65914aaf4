//! What a few bytes of code tell: that a call ends here, that a signal returns, that the thread ends.

/// How the code before a return address calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    /// No call ends there.
    None,
    /// A call of what lies this far from the return address.
    Direct(i64),
    /// A call through a register or memory.
    Indirect,
}

/// Bytes before a return address that are looked at.
pub(super) const BEFORE_BYTES: usize = 8;

/// The call that ends with `before`, the bytes before a return address.
pub(super) fn call(before: &[u8; BEFORE_BYTES]) -> Call {
    if cfg!(target_arch = "aarch64") { arm_call(before) } else { x86_call(before) }
}

fn x86_call(before: &[u8; BEFORE_BYTES]) -> Call {
    if let [_, _, _, 0xe8, a, b, c, d] = *before {
        return Call::Direct(i64::from(i32::from_le_bytes([a, b, c, d])));
    }
    for length in [2, 3, 4, 6, 7] {
        if let Some([0xff, modrm, rest @ ..]) = before.get(BEFORE_BYTES - length..)
            && modrm >> 3 & 7 == 2
            && indirect_bytes(*modrm, rest.first().copied()) == length
        {
            return Call::Indirect;
        }
    }
    Call::None
}

/// Size of an instruction of one byte, a ModRM byte and what that one asks for.
fn indirect_bytes(modrm: u8, sib: Option<u8>) -> usize {
    let (mode, operand) = (modrm >> 6, modrm & 7);
    if mode == 3 {
        return 2;
    }
    let sib_bytes = usize::from(operand == 4);
    let based = if operand == 4 { sib.is_some_and(|sib| sib & 7 == 5) } else { operand == 5 };
    let displacement = match mode {
        0 if based => 4,
        0 => 0,
        1 => 1,
        _ => 4,
    };
    2 + sib_bytes + displacement
}

fn arm_call(before: &[u8; BEFORE_BYTES]) -> Call {
    let [_, _, _, _, a, b, c, d] = *before;
    let word = u32::from_le_bytes([a, b, c, d]);
    if word & 0xfc00_0000 == 0x9400_0000 {
        let by = (word << 6).cast_signed() >> 4;
        return Call::Direct(i64::from(by) - 4);
    }
    // blr, and its forms with pointer authentication.
    if word & 0xffff_fc1f == 0xd63f_0000 || word & 0xfeff_f000 == 0xd63f_0000 {
        return Call::Indirect;
    }
    Call::None
}

/// Bytes behind an address that are looked at.
pub(super) const AFTER_BYTES: usize = 12;

/// What every signal trampoline of x86-64 is: the number of `rt_sigreturn`, and a system call.
const SIGNAL_RETURNS: [&[u8]; 2] = [&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 5], &[0xb8, 15, 0, 0, 0, 0x0f, 5]];

/// Bytes before an address that may belong to a signal trampoline.
pub(super) const RETURN_BYTES: usize = 9;

/// Whether `code` begins as a signal trampoline does.
pub(super) fn returns_from_signal(code: &[u8]) -> bool {
    !cfg!(target_arch = "aarch64") && SIGNAL_RETURNS.iter().any(|stub| code.starts_with(stub))
}

/// Whether a thread that goes on `at` in `code` is in a signal trampoline or, in its system call, behind it: there ends
/// the function, and its unwind entry with it.
pub(super) fn is_returning_from_signal(code: &[u8], at: usize) -> bool {
    let is_in = |stub: &&[u8]| {
        let is_stub = |from: usize| code.get(from..).is_some_and(|code| code.starts_with(stub));
        (at.saturating_sub(stub.len())..=at).any(is_stub)
    };
    !cfg!(target_arch = "aarch64") && SIGNAL_RETURNS.iter().any(is_in)
}

/// Whether `code` ends the thread at once with what a function has returned, as a thread's first code does
/// (x86-64): `mov edi, eax; xor eax, eax; mov al, 60; syscall`, or with `mov eax, 60`.
pub(super) fn ends_thread(code: &[u8]) -> bool {
    !cfg!(target_arch = "aarch64")
        && (code.starts_with(&[0x89, 0xc7, 0x31, 0xc0, 0xb0, 60, 0x0f, 5])
            || code.starts_with(&[0x89, 0xc7, 0xb8, 60, 0, 0, 0, 0x0f, 5]))
}

/// Whether `code`, which begins `at`, jumps to `target` somewhere: by `jmp rel32` or `jmp rel8` (x86-64).
pub(super) fn jumps_to(code: &[u8], at: u64, target: u64) -> bool {
    let lands = |end: usize, by: i64| at.wrapping_add(end as u64).wrapping_add_signed(by) == target;
    !cfg!(target_arch = "aarch64")
        && (code.windows(5).enumerate().any(|(index, window)| match *window {
            [0xe9, a, b, c, d] => lands(index + 5, i64::from(i32::from_le_bytes([a, b, c, d]))),
            _ => false,
        }) || code.windows(2).enumerate().any(|(index, window)| match *window {
            [0xeb, by] => lands(index + 2, i64::from(by.cast_signed())),
            _ => false,
        }))
}

#[cfg(all(test, not(target_arch = "aarch64")))]
mod tests {
    use super::*;

    #[test]
    fn calls_are_known_by_their_bytes() {
        for (bytes, expected) in [
            (&[0xe8, 0x10, 0, 0, 0][..], Call::Direct(16)),
            (&[0xe8, 0xf0, 0xff, 0xff, 0xff], Call::Direct(-16)),
            (&[0xff, 0xd0], Call::Indirect),                   // rax
            (&[0x41, 0xff, 0xd1], Call::Indirect),             // r9
            (&[0xff, 0x10], Call::Indirect),                   // [rax]
            (&[0xff, 0x50, 8], Call::Indirect),                // [rax+8]
            (&[0xff, 0x14, 0xc8], Call::Indirect),             // [rax+rcx*8]
            (&[0xff, 0x54, 0x24, 8], Call::Indirect),          // [rsp+8]
            (&[0xff, 0x15, 1, 2, 3, 4], Call::Indirect),       // [rip+..]
            (&[0xff, 0x90, 1, 2, 3, 4], Call::Indirect),       // [rax+..]
            (&[0xff, 0x94, 0x24, 1, 2, 3, 4], Call::Indirect), // [rsp+..]
            (&[0xff, 0x14, 0xc5, 1, 2, 3, 4], Call::Indirect), // [rax*8+..]
            (&[0xff, 0xe0], Call::None),                       // a jump
            (&[0xff, 0x30], Call::None),                       // a push
            (&[0x90, 0x90], Call::None),
        ] {
            let mut before = [0x90; BEFORE_BYTES];
            before[BEFORE_BYTES - bytes.len()..].copy_from_slice(bytes);
            assert_eq!(call(&before), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn a_thread_is_in_a_signal_trampoline_up_to_the_end_of_its_system_call() {
        for stub in SIGNAL_RETURNS {
            let code = [&[0xc3; 12], stub, &[0x90; 12]].concat();
            let is_in = (0..code.len()).filter(|at| is_returning_from_signal(&code, *at));
            assert_eq!(is_in.collect::<Vec<_>>(), (12..=12 + stub.len()).collect::<Vec<_>>());
            assert!(returns_from_signal(&code[12..]) && !returns_from_signal(&code[11..]));
            assert!(!is_returning_from_signal(&code[..12 + stub.len() - 1], 12), "cut");
        }
    }
}
