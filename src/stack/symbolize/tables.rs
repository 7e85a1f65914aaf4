//! The symbol table of a mapped file: kept already, or made when a place in it is first named.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::Symbolizer;
use crate::model::BuildId;
use crate::stack::file::MappedFile;
use crate::stack::plan::Plan;
use crate::stack::source::{Key, ReadError, Source};
use crate::stack::table::SymbolTable;

/// What is known of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Known {
    /// None for a file without a table.
    key: Option<Key>,
    pub(super) build_id: Option<BuildId>,
    /// Whether it could not be opened.
    was_gone: bool,
}

impl Symbolizer {
    /// The table of `file`, if it has one. What could not be opened, or was let go of for others, is tried again: both
    /// may pass.
    pub(super) fn table(&mut self, file: &MappedFile) -> Option<Arc<SymbolTable>> {
        let before = self.files.get(&file.id);
        match before.map(|known| (known.key, known.was_gone && file.is_open())) {
            Some((Some(key), _)) => {
                let table = self.tables.get(key);
                if table.is_some() {
                    return table;
                }
                self.stats.tables_lost += 1;
            }
            Some((None, false)) => return None,
            Some((None, true)) | None => {}
        }
        let read = file.read(|fd| self.read(fd, file).ok());
        let was_gone = read.is_none();
        let read = read.flatten();
        if before.is_none() {
            let is_empty = read.as_ref().is_some_and(|(_, table)| table.is_empty());
            self.stats.files_unreadable += u64::from(read.is_none());
            self.stats.files_without_symbols += u64::from(is_empty);
        }
        let build_id = before.and_then(|known| known.build_id);
        let nothing = Known { key: None, build_id, was_gone };
        self.files.insert(file.id, read.as_ref().map_or(nothing, |(known, _)| *known), 0);
        read.map(|(_, table)| table)
    }

    /// The table of an open file: kept already, or made now.
    pub(super) fn read(
        &mut self,
        fd: Arc<OwnedFd>,
        file: &MappedFile,
    ) -> Result<(Known, Arc<SymbolTable>), ReadError> {
        let mut plan = Plan::new(Source::file(fd)?, file.build_id)?;
        let build_id = plan.build_id();
        let wants_dwarf = self.inliner.is_some() && !plan.has_dwarf();
        let mut has_debug_file = false;
        if let Some(build_id) = build_id.filter(|_| plan.is_stripped() || wants_dwarf) {
            match self.debug_files.open(build_id) {
                // A debug file without symbols is none for this.
                Some(source) if plan.is_stripped() => has_debug_file = plan.add_debug_file(source).is_ok(),
                Some(_) => {}
                None => self.debug_files.wait_for(build_id, file.id),
            }
        }
        let key = plan.key();
        let known = Known { key: Some(key), build_id, was_gone: false };
        if let Some(table) = self.tables.get(key) {
            self.stats.tables_from_cache += 1;
            return Ok((known, table));
        }
        let table = plan.build()?;
        self.stats.tables_built += 1;
        self.stats.tables_with_debug_file += u64::from(has_debug_file);
        Ok((known, self.tables.insert(key, table)))
    }
}
