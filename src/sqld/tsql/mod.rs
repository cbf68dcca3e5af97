//! T-SQL in, SQLite's SQL out.
//!
//! ```text
//! text ── parse ──> Statement (a tree) ── bind ──> SQLite's SQL, parameters, columns with T-SQL types
//! ```
//!
//! [`parse`] reads what holds statements together (`IF`, `BEGIN`, `DECLARE`, `SET`, transactions) itself, because no two statements need a
//! semicolon between them, and leaves queries, changes and expressions to `sqlparser`. [`bind`] knows the tables: it resolves
//! names, so it is the one that says 207 and 208, and it gives every expression a T-SQL type, so that results have the types that SQL
//! Server would give them. What neither knows is refused with error 40510, never half done.

pub(crate) mod bind;
pub(crate) mod call;
pub(crate) mod change;
pub(crate) mod parse;
pub(crate) mod query;
pub(crate) mod table;
