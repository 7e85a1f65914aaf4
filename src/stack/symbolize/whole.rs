//! A stack of places to a stack of frames, made once for all stacks that have the same texts: of a recursion that goes down
//! two ways there is one for each depth, however many ways there are.

use std::sync::Arc;

use super::super::file::Place;
use super::super::root;
use super::chains::Effort;
use super::{Spot, Symbolizer, Text, Texts};
use crate::model::{Quality, Stack};

/// What stands behind the numbers of a stack's texts, for how it ends: these and those below are no text's.
const ENDS_PLAINLY: u64 = u64::MAX;
const ENDS_AT_ITS_ROOT: u64 = u64::MAX - 1;
const IS_CUT: u64 = u64::MAX - 2;
const IS_SHORT: u64 = u64::MAX - 3;

/// Stands for how a stack ends.
pub(super) fn number_of_end(end: Option<Spot>) -> u64 {
    match end {
        None => ENDS_PLAINLY,
        Some(Spot::Root) => ENDS_AT_ITS_ROOT,
        Some(Spot::Truncated) => IS_CUT,
        Some(_) => IS_SHORT,
    }
}

impl Spot {
    /// Whether several of it, one behind the other, are one frame.
    pub(super) fn runs_together(self) -> bool {
        matches!(self, Spot::Anonymous | Spot::Unknown | Spot::KernelUnreadable)
    }
}

impl Symbolizer {
    /// The stack of `places`, which come leaf first, as the kernel gives them.
    pub fn stack(&mut self, places: &[Place]) -> Arc<Stack> {
        self.look_again(places);
        let (mut spots, mut key) = (std::mem::take(&mut self.spots), std::mem::take(&mut self.numbers));
        let end = self.spots_of(places, &mut spots);
        key.clear();
        key.extend(
            spots.iter().filter_map(|(at, spot)| self.number_of(places.get(*at)?, *spot, Effort::Any)),
        );
        key.push(number_of_end(end));
        let known = self.stacks.get(key.as_slice());
        let stack = known.unwrap_or_else(|| {
            let stack = Arc::new(self.make(places, &spots, end));
            let frames: usize = stack.frames().iter().map(|frame| frame.len() + 48).sum();
            self.stacks.insert(
                key.as_slice().into(),
                Arc::clone(&stack),
                size_of_val(key.as_slice()) + frames,
            );
            stack
        });
        (self.spots, self.numbers) = (spots, key);
        stack
    }

    /// The stack of `places` if it is at hand, without looking any of them up.
    pub fn known_stack(&mut self, places: &[Place]) -> Option<Arc<Stack>> {
        // A name that a program tells gets a number when it is asked for, which takes another's place.
        let is_named = |place: &Place| !matches!(place, Place::Jit { name } if self.jit.get(name).is_none());
        if !places.iter().all(is_named) {
            return None;
        }
        let (mut spots, mut key) = (std::mem::take(&mut self.spots), std::mem::take(&mut self.numbers));
        let end = self.spots_of(places, &mut spots);
        key.clear();
        let at_hand = |(at, spot): &(usize, Spot)| self.number_of(places.get(*at)?, *spot, Effort::None);
        key.extend(spots.iter().map_while(at_hand));
        let is_whole = key.len() == spots.len();
        key.push(number_of_end(end));
        let known = is_whole.then(|| self.stacks.get(key.as_slice())).flatten();
        (self.spots, self.numbers) = (spots, key);
        known
    }

    /// Puts those of `places` that count into `spots`: of a run of what has no name, one. How the stack ends, if that is
    /// told.
    fn spots_of(&mut self, places: &[Place], spots: &mut Vec<(usize, Spot)>) -> Option<Spot> {
        spots.clear();
        let mut end = None;
        let mut above: Option<&Place> = None;
        for (at, place) in places.iter().enumerate() {
            let entered_kernel =
                matches!(above, Some(Place::Kernel(_))) && !matches!(place, Place::Kernel(_));
            let spot = self.spot(place, above.is_none() || entered_kernel);
            above = Some(place);
            if place.is_end() {
                end = Some(spot);
                continue;
            }
            if !(spot.runs_together() && spots.last().is_some_and(|(_, last)| *last == spot)) {
                spots.push((at, spot));
            }
        }
        end
    }

    /// The number of the texts at `place`; none where they would have to be looked up and are not to be.
    pub(super) fn number_of(&mut self, place: &Place, spot: Spot, effort: Effort) -> Option<u64> {
        let known = self.places.read(&spot, |texts| texts.number);
        known.or_else(|| (effort == Effort::Any).then(|| self.texts(place, spot).number))
    }

    fn make(&mut self, places: &[Place], spots: &[(usize, Spot)], end: Option<Spot>) -> Stack {
        let mut quality = Quality::default();
        let mut texts: Vec<Text> = Vec::with_capacity(spots.len());
        for (at, spot) in spots {
            let Some(place) = places.get(*at) else { continue };
            if matches!(spot, Spot::Guessed(..)) {
                quality = quality.with(Quality::GUESSED);
            }
            let Texts { own, inlined, number } = self.texts(place, *spot);
            let inlined = inlined.iter().flat_map(|texts| texts.iter());
            texts.extend(inlined.map(|text| Text { text: Arc::clone(text), symbolized: true, number }));
            texts.push(own);
        }
        let depth = root::depth(texts.iter().map(|text| &*text.text));
        texts.truncate(depth.unwrap_or(texts.len()));
        // While a program is made or taken down there is no user stack to be seen.
        let last = spots.last().map(|(_, spot)| *spot);
        let kernel_alone = matches!(last, Some(Spot::Kernel(_) | Spot::KernelUnreadable)) && end.is_none();
        if depth.is_some() || kernel_alone || end == Some(Spot::Root) {
            quality = quality.with(Quality::COMPLETE);
        }
        if texts.iter().any(|text| !text.symbolized) {
            quality = quality.with(Quality::UNSYMBOLIZED);
        }
        let mut frames: Vec<Arc<str>> = texts.into_iter().map(|text| text.text).collect();
        if end == Some(Spot::Truncated) {
            // The limit was reached, whatever the last frame before it is called.
            quality = quality.with(Quality::TRUNCATED);
            frames.push(self.texts(&Place::Truncated, Spot::Truncated).own.text);
        } else if !quality.has(Quality::COMPLETE) && !frames.is_empty() {
            quality = quality.with(Quality::SHORT);
            frames.push(self.texts(&Place::Short, Spot::Short).own.text);
        }
        frames.reverse();
        Stack::new(frames, quality)
    }
}
