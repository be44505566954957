//! The configuration files of desktop clients: which there are, and one entry in them.
