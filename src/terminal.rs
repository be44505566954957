//! What terminals show.

/// Whether a terminal shows escape sequences as colours.
///
/// On Windows that must be switched on, for standard output and standard error together, and this does
/// it. It says no there also when one of the two is no terminal.
pub fn shows_colours() -> bool {
    #[cfg(windows)]
    return anstyle_query::windows::enable_ansi_colors() == Some(true);
    #[cfg(not(windows))]
    true
}
