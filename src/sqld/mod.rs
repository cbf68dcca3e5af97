//! The stand-in database: TDS in front of SQLite.
