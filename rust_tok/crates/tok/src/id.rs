//! Ids as they are stored.

/// The largest id that a file may use: ids index tables.
pub const MAX_ID: u32 = (1 << 24) - 1;

/// An id as it is stored: 16 bits where the vocabulary fits, else 32.
pub trait Id: Copy + Default + Send + Sync + std::fmt::Debug + 'static {
    /// As many ids as 16 bytes hold.
    type Lanes: Copy + Default + std::fmt::Debug + Send + Sync + AsRef<[Self]> + AsMut<[Self]>;
    /// Number of them.
    const NUM_LANES: usize = 16 / size_of::<Self>();

    /// Stores an id that fits.
    fn new(id: u32) -> Self;
    /// The id.
    fn get(self) -> u32;
}

impl Id for u16 {
    type Lanes = [Self; 8];

    #[inline]
    fn new(id: u32) -> Self {
        debug_assert!(id <= u32::from(u16::MAX));
        id as u16
    }

    #[inline]
    fn get(self) -> u32 {
        u32::from(self)
    }
}

impl Id for u32 {
    type Lanes = [Self; 4];

    #[inline]
    fn new(id: u32) -> Self {
        id
    }

    #[inline]
    fn get(self) -> u32 {
        self
    }
}
