use std::any::Any;
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::Arc;

/// What keeps memory in place: a mapping, or a vector in private memory.
pub(crate) type Keeper = Arc<dyn Any + Send + Sync>;

/// A reference together with a share in the memory that it points into.
pub(crate) struct Shared<T: ?Sized> {
    target: NonNull<T>,
    keeper: Keeper,
}

// SAFETY: It is an `Arc<T>` in other words: a shared reference and a count that threads share.
unsafe impl<T: ?Sized + Send + Sync> Send for Shared<T> {}
// SAFETY: As above.
unsafe impl<T: ?Sized + Send + Sync> Sync for Shared<T> {}

impl<T: ?Sized> Shared<T> {
    /// # Safety
    ///
    /// The target must be a valid `T` at that address for as long as the keeper lives.
    pub(crate) unsafe fn new(target: NonNull<T>, keeper: Keeper) -> Shared<T> {
        Shared { target, keeper }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    /// Puts the value into private memory.
    pub(crate) fn private(value: T) -> Shared<T> {
        let value = Arc::new(value);
        let target = NonNull::from(&*value);
        // SAFETY: The value does not move and lives as long as the last count on it.
        unsafe { Shared::new(target, value) }
    }
}

impl<T: Send + Sync + 'static> Shared<[T]> {
    /// Puts the values into private memory.
    pub(crate) fn private_slice(values: Vec<T>) -> Shared<[T]> {
        let values = Arc::new(values);
        let target = NonNull::from(values.as_slice());
        // SAFETY: Nobody changes the vector, so its elements stay where they are until the
        // last count on it is gone.
        unsafe { Shared::new(target, values) }
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        Shared { target: self.target, keeper: Arc::clone(&self.keeper) }
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: `new` was promised that the target is valid while the keeper lives, and the
        // keeper lives in here. Only shared references are ever made.
        unsafe { self.target.as_ref() }
    }
}
