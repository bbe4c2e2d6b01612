//! Values that are seldom there.

/// A value that takes memory only once it was needed, until it is let go of.
#[derive(Debug)]
pub(crate) struct Rare<T>(Option<Box<T>>);

impl<T> Default for Rare<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Rare<T> {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    /// The value.
    pub(crate) fn of(value: T) -> Self {
        Self(Some(Box::new(value)))
    }

    #[inline]
    pub(crate) fn get(&self) -> Option<&T> {
        self.0.as_deref()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_deref_mut()
    }

    /// The value, which is made if it is not there.
    #[inline]
    pub(crate) fn make_with(&mut self, make: impl FnOnce() -> T) -> &mut T {
        self.0.get_or_insert_with(|| Box::new(make()))
    }

    /// Lets go of it if nothing is in it.
    pub(crate) fn rest(&mut self, is_empty: impl FnOnce(&T) -> bool) {
        self.0.take_if(|value| is_empty(value));
    }
}

impl<T: Default> Rare<T> {
    /// The value, which is made if it is not there.
    #[inline]
    pub(crate) fn make(&mut self) -> &mut T {
        self.make_with(T::default)
    }
}
