//! `prctl(PR_SET_MM)`: a program says where its parts lie.

use crate::abi::{
    PR_SET_MM_ARG_END, PR_SET_MM_ARG_START, PR_SET_MM_BRK, PR_SET_MM_END_CODE, PR_SET_MM_END_DATA,
    PR_SET_MM_ENV_END, PR_SET_MM_ENV_START, PR_SET_MM_START_BRK, PR_SET_MM_START_CODE,
    PR_SET_MM_START_DATA, PR_SET_MM_START_STACK,
};
use crate::errno::Errno;
use crate::layout::{Capabilities, Layout};
use crate::page_side::PageSide;
use crate::space::AddressSpace;

/// Where the parts of a program lie, as it says itself; bytes, ends exclusive.
///
/// # Examples
///
/// ```
/// use maple_mm::{Layout, ProgramAddresses};
/// let layout = Layout { start_brk: 0x60_0000, brk: 0x60_1234, ..Layout::default() };
/// assert_eq!(ProgramAddresses::of(&layout).brk, 0x60_1234);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgramAddresses {
    /// The code.
    pub start_code: u64,
    /// Its end.
    pub end_code: u64,
    /// The initialised data.
    pub start_data: u64,
    /// Its end.
    pub end_data: u64,
    /// The heap.
    pub start_brk: u64,
    /// Its end.
    pub brk: u64,
    /// The stack pointer at the start.
    pub start_stack: u64,
    /// The arguments.
    pub arg_start: u64,
    /// Their end.
    pub arg_end: u64,
    /// The environment.
    pub env_start: u64,
    /// Its end.
    pub env_end: u64,
}

impl ProgramAddresses {
    /// Those of a layout.
    #[must_use]
    pub const fn of(layout: &Layout) -> Self {
        Self {
            start_code: layout.start_code,
            end_code: layout.end_code,
            start_data: layout.start_data,
            end_data: layout.end_data,
            start_brk: layout.start_brk,
            brk: layout.brk,
            start_stack: layout.start_stack,
            arg_start: layout.arg_start,
            arg_end: layout.arg_end,
            env_start: layout.env_start,
            env_end: layout.env_end,
        }
    }

    const fn store(&self, layout: &mut Layout) {
        layout.start_code = self.start_code;
        layout.end_code = self.end_code;
        layout.start_data = self.start_data;
        layout.end_data = self.end_data;
        layout.start_brk = self.start_brk;
        layout.brk = self.brk;
        layout.start_stack = self.start_stack;
        layout.arg_start = self.arg_start;
        layout.arg_end = self.arg_end;
        layout.env_start = self.env_start;
        layout.env_end = self.env_end;
    }

    /// The address that an option of `PR_SET_MM` names; `None` for an unknown one.
    const fn named(&mut self, option: u64) -> Option<&mut u64> {
        Some(match option {
            PR_SET_MM_START_CODE => &mut self.start_code,
            PR_SET_MM_END_CODE => &mut self.end_code,
            PR_SET_MM_START_DATA => &mut self.start_data,
            PR_SET_MM_END_DATA => &mut self.end_data,
            PR_SET_MM_START_BRK => &mut self.start_brk,
            PR_SET_MM_BRK => &mut self.brk,
            PR_SET_MM_START_STACK => &mut self.start_stack,
            PR_SET_MM_ARG_START => &mut self.arg_start,
            PR_SET_MM_ARG_END => &mut self.arg_end,
            PR_SET_MM_ENV_START => &mut self.env_start,
            PR_SET_MM_ENV_END => &mut self.env_end,
            _ => return None,
        })
    }

    const fn all(&self) -> [u64; 11] {
        [
            self.start_code,
            self.end_code,
            self.start_data,
            self.end_data,
            self.start_brk,
            self.brk,
            self.start_stack,
            self.arg_start,
            self.arg_end,
            self.env_start,
            self.env_end,
        ]
    }

    /// Whether each part begins before it ends; all but the code may be empty.
    const fn is_in_order(&self) -> bool {
        self.start_code < self.end_code
            && self.start_data <= self.end_data
            && self.start_brk <= self.brk
            && self.arg_start <= self.arg_end
            && self.env_start <= self.env_end
    }
}

impl<P: PageSide> AddressSpace<P> {
    /// `prctl(PR_SET_MM, option, addr, 0, 0)` for a single address.
    pub(crate) fn set_mm(&mut self, args: [u64; 4]) -> Result<(), Errno> {
        let [option, addr, 0, 0] = args else {
            return Err(Errno::EINVAL);
        };
        if !self.capabilities.contains(Capabilities::SYS_RESOURCE) {
            return Err(Errno::EPERM);
        }
        if !self.may_be_program_address(addr) {
            return Err(Errno::EINVAL);
        }
        let mut addresses = ProgramAddresses::of(&self.layout);
        *addresses.named(option).ok_or(Errno::EINVAL)? = addr;
        self.check_addresses(&addresses)?;
        let is_on_stack = matches!(
            option,
            PR_SET_MM_START_STACK
                | PR_SET_MM_ARG_START
                | PR_SET_MM_ARG_END
                | PR_SET_MM_ENV_START
                | PR_SET_MM_ENV_END
        );
        if is_on_stack && self.find_vma(addr).is_none() {
            return Err(Errno::EFAULT);
        }
        addresses.store(&mut self.layout);
        Ok(())
    }

    /// Does what `prctl(PR_SET_MM, PR_SET_MM_MAP)` does: a program says at once where all of its
    /// parts lie. `brk`, the names `[heap]` and `[stack]`, and `VmExe` follow.
    ///
    /// What the call has besides, an auxiliary vector and the file of the program, concerns no
    /// mapping.
    ///
    /// # Errors
    ///
    /// [`Errno::EINVAL`]: an address below the lowest or above the highest one, a part that ends
    /// before it begins, or more data and heap than `RLIMIT_DATA`. Nothing changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use maple_mm::{AddressSpace, Errno, ProgramAddresses};
    /// let mut space = AddressSpace::empty();
    /// let low = 0x10_0000;
    /// let all = ProgramAddresses {
    ///     start_code: low,
    ///     end_code: low + 1,
    ///     start_data: low,
    ///     end_data: low,
    ///     start_brk: 0x60_0000,
    ///     brk: 0x60_0000,
    ///     start_stack: low,
    ///     arg_start: low,
    ///     arg_end: low,
    ///     env_start: low,
    ///     env_end: low,
    /// };
    /// space.set_program_addresses(&all)?;
    /// assert_eq!(space.brk(0x60_1000), 0x60_1000);
    /// let reversed = ProgramAddresses { brk: low, ..all };
    /// assert_eq!(space.set_program_addresses(&reversed), Err(Errno::EINVAL));
    /// # Ok::<(), Errno>(())
    /// ```
    pub fn set_program_addresses(&mut self, addresses: &ProgramAddresses) -> Result<(), Errno> {
        self.check_addresses(addresses)?;
        addresses.store(&mut self.layout);
        Ok(())
    }

    fn check_addresses(&self, addresses: &ProgramAddresses) -> Result<(), Errno> {
        let all = addresses.all();
        let is_plausible = all
            .into_iter()
            .all(|addr| self.may_be_program_address(addr))
            && addresses.is_in_order()
            && self.is_within_data_limit(addresses);
        if is_plausible {
            Ok(())
        } else {
            Err(Errno::EINVAL)
        }
    }

    fn may_be_program_address(&self, addr: u64) -> bool {
        (self.system.lowest_address()..self.layout.task_size).contains(&addr)
    }

    /// Whether heap and initialised data stay within `RLIMIT_DATA` together.
    pub(crate) const fn is_within_data_limit(&self, addresses: &ProgramAddresses) -> bool {
        let heap = addresses.brk.wrapping_sub(addresses.start_brk);
        let data = addresses.end_data.wrapping_sub(addresses.start_data);
        self.limits.data == u64::MAX || heap.wrapping_add(data) <= self.limits.data
    }
}
