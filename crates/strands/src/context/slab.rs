//! A collection whose things are found again by the place they were given.

use std::mem;

/// Places are used again; when the last thing has left, so does the memory.
pub(super) struct Slab<T> {
    places: Vec<Place<T>>,
    /// The head of the list of free places; [`NOWHERE`] ends it.
    free: usize,
    taken: usize,
}

enum Place<T> {
    Free { next: usize },
    Taken(T),
}

/// Not a place.
pub(super) const NOWHERE: usize = usize::MAX;

impl<T> Slab<T> {
    pub(super) const fn new() -> Slab<T> {
        Slab { places: Vec::new(), free: NOWHERE, taken: 0 }
    }

    pub(super) fn insert(&mut self, thing: T) -> usize {
        self.taken += 1;
        let place = self.free;
        match self.places.get_mut(place) {
            Some(free) => {
                if let Place::Free { next } = mem::replace(free, Place::Taken(thing)) {
                    self.free = next;
                }
                place
            }
            None => {
                self.places.push(Place::Taken(thing));
                self.places.len() - 1
            }
        }
    }

    /// What is at that place, if something is; and memory that is no longer needed. Both are for the caller to
    /// drop, where no lock is held.
    pub(super) fn remove(&mut self, place: usize) -> Option<(T, Slab<T>)> {
        let free = Place::Free { next: self.free };
        let found = self.places.get_mut(place)?;
        match mem::replace(found, free) {
            Place::Taken(thing) => {
                self.free = place;
                self.taken -= 1;
                let rest =
                    if self.taken == 0 { mem::replace(self, Slab::new()) } else { Slab::new() };
                Some((thing, rest))
            }
            was_free => {
                *found = was_free;
                None
            }
        }
    }

    /// How many things there are.
    pub(super) fn len(&self) -> usize {
        self.taken
    }

    /// All things there are.
    pub(super) fn into_things(self) -> impl Iterator<Item = T> {
        self.places.into_iter().filter_map(|place| match place {
            Place::Taken(thing) => Some(thing),
            Place::Free { .. } => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_used_again_and_the_memory_goes_with_the_last() {
        let mut slab = Slab::new();
        let places: Vec<usize> = (0..100).map(|n| slab.insert(n)).collect();
        for &place in &places[10..90] {
            assert_eq!(slab.remove(place).map(|(n, _)| n), Some(place));
            assert!(slab.remove(place).is_none());
        }
        for n in 0..80 {
            assert!((10..90).contains(&slab.insert(100 + n)));
        }
        assert_eq!((slab.len(), slab.places.len()), (100, 100));
        for place in 0..100 {
            assert!(slab.remove(place).is_some());
        }
        assert_eq!((slab.len(), slab.places.capacity()), (0, 0));
        assert!(slab.remove(3).is_none());
    }
}
