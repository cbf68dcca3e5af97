//! Reads a batch into statements.

use sqlparser::{
    ast::{self, AssignmentTarget, Expr, Ident, ObjectName, ObjectNamePart},
    dialect::MsSqlDialect,
    keywords::Keyword,
    parser::{Parser, ParserError},
    tokenizer::{Location, Span, Token, TokenWithSpan, Tokenizer},
};

use crate::sqld::{
    errors::{self, SqlError},
    types::SqlType,
};

/// The longest batch, in tokens. Bounds the depth of the trees that are built, and so the stack that walking them needs.
const MAX_TOKENS: usize = 60_000;
/// The longest name, in units of UTF-16. The catalog has no room for a longer one.
const MAX_NAME: usize = 128;
/// How deep blocks may stand in one another.
const MAX_NESTING: usize = 32;
/// A declaration without a length has this one.
const DECLARED_LENGTH: u16 = 1;

/// A statement and the line on which it begins.
#[derive(Clone, Debug)]
pub(crate) struct Located {
    /// The line, from 1.
    pub(crate) line: u32,
    /// The statement.
    pub(crate) statement: Statement,
}

/// A statement.
#[derive(Clone, Debug)]
pub(crate) enum Statement {
    /// SELECT
    Query(Box<ast::Query>),
    /// INSERT
    Insert(Box<ast::Insert>),
    /// UPDATE
    Update(Box<ast::Update>),
    /// DELETE
    Delete(Box<ast::Delete>),
    /// CREATE TABLE
    CreateTable(Box<ast::CreateTable>),
    /// CREATE INDEX
    CreateIndex(Box<ast::CreateIndex>),
    /// CREATE DATABASE
    CreateDatabase(String),
    /// DROP TABLE
    DropTable {
        /// Which.
        names: Vec<ObjectName>,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// DROP DATABASE
    DropDatabase {
        /// Which.
        name: String,
        /// Whether a missing one is no error.
        if_exists: bool,
    },
    /// TRUNCATE TABLE
    Truncate(ObjectName),
    /// DECLARE
    Declare(Vec<Declaration>),
    /// SET @x = ...
    Assign {
        /// The variable.
        name: String,
        /// Its new value.
        value: Expr,
    },
    /// SET of an option of the session.
    SetOption {
        /// The options' names, in upper case.
        names: Vec<String>,
        /// The value, in upper case.
        value: String,
    },
    /// IF
    If {
        /// The condition.
        condition: Expr,
        /// What is done if it holds.
        then: Box<Located>,
        /// What is done if not.
        otherwise: Option<Box<Located>>,
    },
    /// WHILE
    While {
        /// The condition.
        condition: Expr,
        /// What is repeated.
        body: Box<Located>,
    },
    /// BREAK
    Break,
    /// CONTINUE
    Continue,
    /// BEGIN ... END
    Block(Vec<Located>),
    /// BEGIN TRY ... END TRY BEGIN CATCH ... END CATCH
    Try {
        /// What is tried.
        body: Vec<Located>,
        /// What is done when it fails.
        catch: Vec<Located>,
    },
    /// BEGIN TRANSACTION, perhaps with a name.
    Begin(Option<String>),
    /// COMMIT
    Commit,
    /// ROLLBACK, perhaps to a savepoint.
    Rollback(Option<String>),
    /// SAVE TRANSACTION
    Save(String),
    /// USE
    Use(String),
    /// WAITFOR DELAY
    WaitFor(Expr),
    /// PRINT
    Print(Expr),
    /// EXEC of a procedure.
    Execute {
        /// Its name.
        name: String,
        /// The arguments: name, value, and whether it is an output.
        arguments: Vec<Argument>,
    },
    /// EXEC of a text.
    ExecuteText(Expr),
    /// DBCC
    Dbcc {
        /// The command, in upper case.
        command: String,
        /// Its first argument.
        target: Option<String>,
        /// What follows WITH, in upper case.
        options: Vec<String>,
    },
    /// RAISERROR: text, class, state.
    Raise(Box<[Expr; 3]>),
    /// THROW: number, text, state; or the error that is being handled.
    Throw(Option<Box<[Expr; 3]>>),
    /// RETURN
    Return,
    /// A statement that changes nothing here: some of ALTER DATABASE ... SET, CHECKPOINT.
    Nothing,
}

/// A variable that is declared.
#[derive(Clone, Debug)]
pub(crate) struct Declaration {
    /// Its name, with the `@`.
    pub(crate) name: String,
    /// Its type.
    pub(crate) ty: SqlType,
    /// Its first value.
    pub(crate) value: Option<Expr>,
}

/// An argument of a procedure.
#[derive(Clone, Debug)]
pub(crate) struct Argument {
    /// Its name, if it is given by name.
    pub(crate) name: Option<String>,
    /// Its value.
    pub(crate) value: Expr,
    /// Whether the procedure may change it.
    pub(crate) output: bool,
}

/// Reads a batch.
pub(crate) fn batch(text: &str) -> Result<Vec<Located>, SqlError> {
    let dialect = MsSqlDialect {};
    let mut reader = Reader { parser: Parser::new(&dialect).with_tokens_with_locations(tokens(dialect, text)?), nesting: 0 };
    let mut statements = Vec::new();
    loop {
        reader.skip_semicolons();
        if reader.at_end() {
            return Ok(statements);
        }
        statements.push(reader.statement()?);
    }
}

/// Reads one expression, such as a column's default.
pub(crate) fn expression(text: &str) -> Result<Expr, SqlError> {
    let dialect = MsSqlDialect {};
    Parser::new(&dialect).with_tokens_with_locations(tokens(dialect, text)?).parse_expr().map_err(|error| from_parser(&error))
}

/// Reads the declaration of `sp_executesql`'s parameters: names and types.
pub(crate) fn parameters(text: &str) -> Result<Vec<(String, SqlType)>, SqlError> {
    let dialect = MsSqlDialect {};
    let mut reader = Reader { parser: Parser::new(&dialect).with_tokens_with_locations(tokens(dialect, text)?), nesting: 0 };
    let mut found = Vec::new();
    while !reader.at_end() {
        let name = reader.word()?;
        reader.eat("AS");
        found.push((name, reader.data_type()?));
        if reader.parser.consume_token(&Token::Eq) {
            reader.expression()?;
        }
        if !reader.eat("OUTPUT") && !reader.eat("OUT") {
            reader.eat("READONLY");
        }
        if !reader.parser.consume_token(&Token::Comma) && !reader.at_end() {
            return Err(reader.unexpected());
        }
    }
    Ok(found)
}

/// Words that begin a statement and are reserved in T-SQL, but which `sqlparser` would take for an alias.
const SEPARATED: [&str; 15] = [
    "WAITFOR",
    "DBCC",
    "PRINT",
    "USE",
    "COMMIT",
    "ROLLBACK",
    "TRUNCATE",
    "BEGIN",
    "SAVE",
    "BREAK",
    "CONTINUE",
    "RAISERROR",
    "CHECKPOINT",
    "EXEC",
    "EXECUTE",
];

/// What ALTER DATABASE may set: it changes nothing here, or is so anyway.
const DATABASE_OPTIONS: [&str; 16] = [
    "ALLOW_SNAPSHOT_ISOLATION",
    "AUTO_CLOSE",
    "AUTO_CREATE_STATISTICS",
    "AUTO_SHRINK",
    "AUTO_UPDATE_STATISTICS",
    "AUTO_UPDATE_STATISTICS_ASYNC",
    "COMPATIBILITY_LEVEL",
    "DELAYED_DURABILITY",
    "MULTI_USER",
    "ONLINE",
    "PAGE_VERIFY",
    "QUERY_STORE",
    "READ_COMMITTED_SNAPSHOT",
    "READ_WRITE",
    "RECOVERY",
    "TARGET_RECOVERY_TIME",
];

/// The tokens without white space, with a semicolon where a statement must begin.
fn tokens(dialect: MsSqlDialect, text: &str) -> Result<Vec<TokenWithSpan>, SqlError> {
    let all = Tokenizer::new(&dialect, text).tokenize_with_location().map_err(|error| {
        let near: String = error.message.chars().take(40).collect();
        errors::syntax(&near)
    })?;
    let mut tokens: Vec<TokenWithSpan> = Vec::with_capacity(all.len());
    let mut depth = 0_usize;
    let mut updating = false;
    for token in all {
        match &token.token {
            Token::Whitespace(_) => continue,
            Token::Word(word) if word.value.len() > MAX_NAME && word.value.encode_utf16().count() > MAX_NAME => {
                return Err(errors::name_too_long(&word.value, MAX_NAME));
            }
            Token::LParen => depth += 1,
            Token::RParen => depth = depth.saturating_sub(1),
            Token::Word(word) if word.quote_style.is_none() && depth == 0 => {
                let upper = word.value.to_ascii_uppercase();
                let after_period = matches!(tokens.last().map(|last| &last.token), Some(Token::Period));
                let begins = match upper.as_str() {
                    "UPDATE" | "ALTER" => {
                        updating = true;
                        false
                    }
                    // `ALTER DATABASE d SET o WITH ROLLBACK IMMEDIATE` rolls nothing back here.
                    "ROLLBACK" if matches!(tokens.last().map(|last| &last.token), Some(Token::Word(word)) if word.keyword == Keyword::WITH) => {
                        false
                    }
                    "SET" => !std::mem::take(&mut updating),
                    other => SEPARATED.contains(&other),
                };
                let continues = matches!(
                    tokens.last().map(|last| &last.token),
                    None | Some(Token::SemiColon | Token::Period | Token::Eq | Token::Comma)
                );
                if begins && !after_period && !continues {
                    tokens.push(TokenWithSpan { token: Token::SemiColon, span: token.span });
                }
            }
            _ => {}
        }
        tokens.push(token);
        if tokens.len() > MAX_TOKENS {
            return Err(errors::nested_too_deeply());
        }
    }
    Ok(tokens)
}

fn from_parser(error: &ParserError) -> SqlError {
    match error {
        ParserError::RecursionLimitExceeded => errors::nested_too_deeply(),
        ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
            let found = message.rsplit_once("found: ").map_or(message.as_str(), |(_, found)| found);
            let near = found.split_once(" at Line:").map_or(found, |(near, _)| near);
            errors::syntax(near.trim_matches(['\'', '[', ']']))
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a>,
    nesting: usize,
}

impl Reader<'_> {
    fn at_end(&self) -> bool {
        self.parser.peek_token_ref().token == Token::EOF
    }

    fn skip_semicolons(&mut self) {
        while self.parser.consume_token(&Token::SemiColon) {}
    }

    fn line(&self) -> u32 {
        let Span { start: Location { line, .. }, .. } = self.parser.peek_token_ref().span;
        u32::try_from(line).unwrap_or(u32::MAX).max(1)
    }

    /// The next token in upper case, if it is an unquoted word.
    fn peek(&self) -> Option<String> {
        match &self.parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
            _ => None,
        }
    }

    fn peek_nth(&self, n: usize) -> Option<String> {
        match &self.parser.peek_nth_token(n).token {
            Token::Word(word) if word.quote_style.is_none() => Some(word.value.to_ascii_uppercase()),
            _ => None,
        }
    }

    fn is(&self, word: &str) -> bool {
        self.peek().as_deref() == Some(word)
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.is(word);
        if found {
            self.parser.next_token();
        }
        found
    }

    fn expect(&mut self, word: &str) -> Result<(), SqlError> {
        if self.eat(word) { Ok(()) } else { Err(self.unexpected()) }
    }

    fn unexpected(&self) -> SqlError {
        match &self.parser.peek_token_ref().token {
            Token::EOF => errors::syntax("the end of the batch"),
            other => errors::syntax(&other.to_string()),
        }
    }

    fn word(&mut self) -> Result<String, SqlError> {
        match self.parser.next_token().token {
            Token::Word(word) => Ok(word.value),
            other => Err(errors::syntax(&other.to_string())),
        }
    }

    fn expression(&mut self) -> Result<Expr, SqlError> {
        self.parser.parse_expr().map_err(|error| from_parser(&error))
    }

    fn data_type(&mut self) -> Result<SqlType, SqlError> {
        let ty = self.parser.parse_data_type().map_err(|error| from_parser(&error))?;
        SqlType::from_ast(&ty, DECLARED_LENGTH)
    }

    fn statement(&mut self) -> Result<Located, SqlError> {
        if self.nesting >= MAX_NESTING {
            return Err(errors::nested_too_deeply());
        }
        self.nesting += 1;
        let line = self.line();
        let statement = self.unlocated();
        self.nesting -= 1;
        Ok(Located { line, statement: statement? })
    }

    fn unlocated(&mut self) -> Result<Statement, SqlError> {
        let Some(first) = self.peek() else { return self.other() };
        match first.as_str() {
            "IF" => self.condition(),
            "WHILE" => {
                self.parser.next_token();
                let condition = self.expression()?;
                self.skip_semicolons();
                Ok(Statement::While { condition, body: Box::new(self.statement()?) })
            }
            "BEGIN" => self.begin(),
            "BREAK" => Ok(self.single(Statement::Break)),
            "CONTINUE" => Ok(self.single(Statement::Continue)),
            "COMMIT" => {
                self.parser.next_token();
                self.transaction_name();
                Ok(Statement::Commit)
            }
            "ROLLBACK" => {
                self.parser.next_token();
                Ok(Statement::Rollback(self.transaction_name()))
            }
            "SAVE" => {
                self.parser.next_token();
                let name = self.transaction_name().ok_or_else(|| self.unexpected())?;
                Ok(Statement::Save(name))
            }
            "DECLARE" => self.declare(),
            "SET" => self.set(),
            "USE" => {
                self.parser.next_token();
                Ok(Statement::Use(self.word()?))
            }
            "WAITFOR" => {
                self.parser.next_token();
                self.expect("DELAY")?;
                Ok(Statement::WaitFor(self.expression()?))
            }
            "PRINT" => {
                self.parser.next_token();
                Ok(Statement::Print(self.expression()?))
            }
            "EXEC" | "EXECUTE" => self.execute(),
            "DBCC" => self.dbcc(),
            "RAISERROR" => self.raise(),
            "THROW" => self.throw(),
            "RETURN" => {
                self.parser.next_token();
                if !self.at_end()
                    && self.parser.peek_token_ref().token != Token::SemiColon
                    && matches!(self.parser.peek_token_ref().token, Token::Number(..) | Token::Minus)
                {
                    self.expression()?;
                }
                Ok(Statement::Return)
            }
            "CHECKPOINT" => Ok(self.single(Statement::Nothing)),
            "CREATE" if self.peek_nth(1).as_deref() == Some("DATABASE") => {
                self.parser.next_token();
                self.parser.next_token();
                let name = self.word()?;
                if matches!(self.peek().as_deref(), Some("ON" | "COLLATE" | "WITH" | "CONTAINMENT")) {
                    self.skip_to_end_of_statement();
                }
                Ok(Statement::CreateDatabase(name))
            }
            "ALTER" if self.peek_nth(1).as_deref() == Some("DATABASE") => self.alter_database(),
            "DROP" if matches!(self.peek_nth(1).as_deref(), Some("DATABASE" | "TABLE")) => self.drop(),
            "TRUNCATE" => {
                self.parser.next_token();
                self.expect("TABLE")?;
                Ok(Statement::Truncate(self.object_name()?))
            }
            _ => self.other(),
        }
    }

    /// A statement that is one word.
    fn single(&mut self, statement: Statement) -> Statement {
        self.parser.next_token();
        statement
    }

    fn object_name(&mut self) -> Result<ObjectName, SqlError> {
        self.parser.parse_object_name(false).map_err(|error| from_parser(&error))
    }

    /// What `sqlparser` reads.
    fn other(&mut self) -> Result<Statement, SqlError> {
        if self.peek().is_none() && self.parser.peek_token_ref().token != Token::LParen {
            return Err(self.unexpected());
        }
        // A batch may begin with the name of a procedure.
        let known = ["SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "DROP", "MERGE", "GRANT", "REVOKE", "DENY", "KILL"];
        if let Some(first) = self.peek()
            && !known.contains(&first.as_str())
        {
            return if self.parser.get_current_index() == 0 && first.starts_with("SP_") { self.call() } else { Err(self.unexpected()) };
        }
        let statement = self.parser.parse_statement().map_err(|error| from_parser(&error))?;
        Ok(match statement {
            ast::Statement::Query(query) => with_before_insert(*query),
            ast::Statement::Insert(insert) => Statement::Insert(Box::new(insert)),
            ast::Statement::Update(update) => Statement::Update(Box::new(update)),
            ast::Statement::Delete(delete) => Statement::Delete(Box::new(delete)),
            ast::Statement::CreateTable(table) => Statement::CreateTable(Box::new(table)),
            ast::Statement::CreateIndex(index) => Statement::CreateIndex(Box::new(index)),
            other => {
                let text = other.to_string();
                let words: Vec<&str> = text.split_whitespace().take(2).collect();
                return Err(errors::unsupported(words.join(" ")));
            }
        })
    }

    fn skip_to_end_of_statement(&mut self) {
        while !self.at_end() && self.parser.peek_token_ref().token != Token::SemiColon {
            self.parser.next_token();
        }
    }

    fn condition(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        let condition = self.expression()?;
        self.skip_semicolons();
        let then = Box::new(self.statement()?);
        // An ELSE may come after a semicolon; other semicolons stay for the caller, who skips them anyway.
        self.skip_semicolons();
        let otherwise = if self.eat("ELSE") {
            self.skip_semicolons();
            Some(Box::new(self.statement()?))
        } else {
            None
        };
        Ok(Statement::If { condition, then, otherwise })
    }

    fn begin(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        match self.peek().as_deref() {
            Some("TRAN" | "TRANSACTION") => Ok(Statement::Begin(self.transaction_name())),
            Some("DISTRIBUTED") => Err(errors::unsupported("BEGIN DISTRIBUTED TRANSACTION")),
            Some("TRY") => {
                self.parser.next_token();
                let body = self.until_end()?;
                self.expect("TRY")?;
                self.skip_semicolons();
                self.expect("BEGIN")?;
                self.expect("CATCH")?;
                let catch = self.until_end()?;
                self.expect("CATCH")?;
                Ok(Statement::Try { body, catch })
            }
            _ => Ok(Statement::Block(self.until_end()?)),
        }
    }

    fn until_end(&mut self) -> Result<Vec<Located>, SqlError> {
        let mut statements = Vec::new();
        loop {
            self.skip_semicolons();
            if self.eat("END") {
                return Ok(statements);
            }
            if self.at_end() {
                return Err(self.unexpected());
            }
            statements.push(self.statement()?);
        }
    }

    /// `TRAN`, `TRANSACTION` or `WORK`, and a name, all of which may be missing.
    fn transaction_name(&mut self) -> Option<String> {
        let named = self.eat("TRAN") || self.eat("TRANSACTION");
        if !named {
            self.eat("WORK");
            return None;
        }
        let Token::Word(word) = self.parser.peek_token_ref().token.clone() else { return None };
        let keyword = word.quote_style.is_none() && word.keyword != Keyword::NoKeyword;
        if keyword && starts_statement(&word.value.to_ascii_uppercase()) {
            return None;
        }
        self.parser.next_token();
        if self.eat("WITH") {
            self.skip_to_end_of_statement();
        }
        Some(word.value)
    }

    fn declare(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        let mut declarations = Vec::new();
        loop {
            let name = self.word()?;
            if !name.starts_with('@') {
                return Err(errors::unsupported("DECLARE CURSOR"));
            }
            self.eat("AS");
            if self.is("TABLE") {
                return Err(errors::unsupported("DECLARE TABLE"));
            }
            let ty = self.data_type()?;
            let value = if self.parser.consume_token(&Token::Eq) { Some(self.expression()?) } else { None };
            declarations.push(Declaration { name, ty, value });
            if !self.parser.consume_token(&Token::Comma) {
                return Ok(Statement::Declare(declarations));
            }
        }
    }

    fn set(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        let first = self.word()?;
        if first.starts_with('@') {
            if !self.parser.consume_token(&Token::Eq) {
                return Err(self.unexpected());
            }
            return Ok(Statement::Assign { name: first, value: self.expression()? });
        }
        let mut names = vec![first.to_ascii_uppercase()];
        match names[0].as_str() {
            "TRANSACTION" => {
                self.expect("ISOLATION")?;
                self.expect("LEVEL")?;
                let mut value = self.word()?.to_ascii_uppercase();
                if value == "READ" || value == "REPEATABLE" {
                    value = format!("{value} {}", self.word()?.to_ascii_uppercase());
                }
                return Ok(Statement::SetOption { names: vec!["ISOLATION LEVEL".to_owned()], value });
            }
            "IDENTITY_INSERT" => {
                let table = self.object_name()?;
                let value = self.word()?.to_ascii_uppercase();
                return Ok(Statement::SetOption { names: vec![format!("IDENTITY_INSERT {}", last_name(&table)?)], value });
            }
            "STATISTICS" => {
                self.word()?;
            }
            _ => {}
        }
        while self.parser.consume_token(&Token::Comma) {
            names.push(self.word()?.to_ascii_uppercase());
        }
        let negative = self.parser.consume_token(&Token::Minus);
        let value = match self.parser.next_token().token {
            Token::Word(word) => word.value.to_ascii_uppercase(),
            Token::Number(number, _) => format!("{}{number}", if negative { "-" } else { "" }),
            Token::SingleQuotedString(text) | Token::NationalStringLiteral(text) | Token::HexStringLiteral(text) => text,
            other => return Err(errors::syntax(&other.to_string())),
        };
        Ok(Statement::SetOption { names, value })
    }

    fn alter_database(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        self.parser.next_token();
        self.word()?;
        if !self.eat("SET") {
            return Err(errors::unsupported("ALTER DATABASE"));
        }
        let option = self.word()?.to_ascii_uppercase();
        if !DATABASE_OPTIONS.contains(&option.as_str()) {
            return Err(errors::unsupported(format!("ALTER DATABASE SET {option}")));
        }
        self.skip_to_end_of_statement();
        Ok(Statement::Nothing)
    }

    fn drop(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        let database = self.eat("DATABASE");
        if !database {
            self.expect("TABLE")?;
        }
        let if_exists = self.is("IF");
        if if_exists {
            self.parser.next_token();
            self.expect("EXISTS")?;
        }
        if database {
            return Ok(Statement::DropDatabase { name: self.word()?, if_exists });
        }
        let mut names = vec![self.object_name()?];
        while self.parser.consume_token(&Token::Comma) {
            names.push(self.object_name()?);
        }
        Ok(Statement::DropTable { names, if_exists })
    }

    fn execute(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        if self.parser.consume_token(&Token::LParen) {
            let text = self.expression()?;
            if !self.parser.consume_token(&Token::RParen) {
                return Err(self.unexpected());
            }
            return Ok(Statement::ExecuteText(text));
        }
        self.call()
    }

    fn call(&mut self) -> Result<Statement, SqlError> {
        let name = self.object_name()?.to_string();
        let mut arguments = Vec::new();
        while !self.at_end()
            && self.parser.peek_token_ref().token != Token::SemiColon
            && self.peek().as_deref().is_none_or(|word| !starts_statement(word))
        {
            let named = self.peek().is_some_and(|word| word.starts_with('@')) && self.parser.peek_nth_token(1).token == Token::Eq;
            let argument = if named {
                let name = self.word()?;
                self.parser.next_token();
                Some(name)
            } else {
                None
            };
            let value = self.expression()?;
            let output = self.eat("OUTPUT") || self.eat("OUT");
            arguments.push(Argument { name: argument, value, output });
            if !self.parser.consume_token(&Token::Comma) {
                break;
            }
        }
        Ok(Statement::Execute { name, arguments })
    }

    fn dbcc(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        let command = self.word()?.to_ascii_uppercase();
        let mut target = None;
        if self.parser.consume_token(&Token::LParen) {
            let mut depth = 1;
            while depth > 0 {
                match self.parser.next_token().token {
                    Token::LParen => depth += 1,
                    Token::RParen => depth -= 1,
                    Token::Word(word) => target = target.or(Some(word.value)),
                    Token::SingleQuotedString(text) | Token::NationalStringLiteral(text) => target = target.or(Some(text)),
                    Token::EOF => return Err(self.unexpected()),
                    _ => {}
                }
            }
        }
        let mut options = Vec::new();
        if self.eat("WITH") {
            options.push(self.word()?.to_ascii_uppercase());
            while self.parser.consume_token(&Token::Comma) {
                options.push(self.word()?.to_ascii_uppercase());
            }
        }
        Ok(Statement::Dbcc { command, target, options })
    }

    fn raise(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        if !self.parser.consume_token(&Token::LParen) {
            return Err(self.unexpected());
        }
        let mut parts = vec![self.expression()?];
        while self.parser.consume_token(&Token::Comma) {
            parts.push(self.expression()?);
        }
        if !self.parser.consume_token(&Token::RParen) {
            return Err(self.unexpected());
        }
        if self.eat("WITH") {
            self.word()?;
        }
        parts.truncate(3);
        let parts = <[Expr; 3]>::try_from(parts).map_err(|_| self.unexpected())?;
        Ok(Statement::Raise(Box::new(parts)))
    }

    fn throw(&mut self) -> Result<Statement, SqlError> {
        self.parser.next_token();
        if self.at_end() || self.parser.peek_token_ref().token == Token::SemiColon || self.is("END") {
            return Ok(Statement::Throw(None));
        }
        let mut parts = vec![self.expression()?];
        while self.parser.consume_token(&Token::Comma) {
            parts.push(self.expression()?);
        }
        let parts = <[Expr; 3]>::try_from(parts).map_err(|_| self.unexpected())?;
        Ok(Statement::Throw(Some(Box::new(parts))))
    }
}

/// `WITH ... INSERT ... SELECT`: the named subqueries belong to the SELECT.
fn with_before_insert(query: ast::Query) -> Statement {
    match *query.body {
        ast::SetExpr::Insert(ast::Statement::Insert(mut insert)) => {
            if let Some(source) = &mut insert.source {
                source.with = query.with;
            }
            Statement::Insert(Box::new(insert))
        }
        body => Statement::Query(Box::new(ast::Query { body: Box::new(body), ..query })),
    }
}

/// Whether an unquoted word can only begin (or end) a statement.
fn starts_statement(word: &str) -> bool {
    const STARTS: [&str; 18] = [
        "SELECT", "INSERT", "UPDATE", "DELETE", "DECLARE", "SET", "IF", "ELSE", "WHILE", "END", "CREATE", "DROP", "ALTER", "WITH",
        "RETURN", "MERGE", "THROW", "GO",
    ];
    STARTS.contains(&word) || SEPARATED.contains(&word)
}

/// The parts of a name: `a.b.c`.
pub(crate) fn parts(name: &ObjectName) -> Result<Vec<&Ident>, SqlError> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(ident),
            ObjectNamePart::Function(_) => Err(errors::unsupported(name)),
        })
        .collect()
}

/// The last part of a name.
pub(crate) fn last_name(name: &ObjectName) -> Result<String, SqlError> {
    Ok(parts(name)?.last().map(|ident| ident.value.clone()).unwrap_or_default())
}

/// The column that an assignment of UPDATE names.
pub(crate) fn assigned_column(target: &AssignmentTarget) -> Result<String, SqlError> {
    match target {
        AssignmentTarget::ColumnName(name) => last_name(name),
        AssignmentTarget::Tuple(_) => Err(errors::unsupported("SET of several columns at once")),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn kinds(text: &str) -> Vec<String> {
        batch(text)
            .expect("it is well formed")
            .iter()
            .map(|located| format!("{:?}", located.statement).split(['(', ' ', '{']).next().unwrap_or_default().to_owned())
            .collect()
    }

    #[rstest]
    #[case::no_semicolons("SELECT 1 SELECT 2", &["Query", "Query"])]
    #[case::an_alias_is_not_swallowed("SELECT 1 a WAITFOR DELAY '00:00:01' SELECT 2", &["Query", "WaitFor", "Query"])]
    #[case::set_after_select("SELECT x FROM t SET NOCOUNT ON", &["Query", "SetOption"])]
    #[case::update_keeps_its_set("UPDATE t SET a = 1 WHERE b = 2 SET NOCOUNT OFF", &["Update", "SetOption"])]
    #[case::alter_keeps_its_set("ALTER DATABASE d SET RECOVERY SIMPLE WITH ROLLBACK IMMEDIATE; SELECT 1", &["Nothing", "Query"])]
    #[case::transaction("BEGIN TRAN INSERT INTO t VALUES (1) COMMIT TRAN", &["Begin", "Insert", "Commit"])]
    #[case::named_transaction("BEGIN TRANSACTION one; COMMIT TRANSACTION one", &["Begin", "Commit"])]
    #[case::if_else("IF 1 = 1 SELECT 1; ELSE SELECT 2 SELECT 3", &["If", "Query"])]
    #[case::block("IF 1 = 1 BEGIN SELECT 1 SELECT 2 END SELECT 3", &["If", "Query"])]
    #[case::try_catch("BEGIN TRY SELECT 1 END TRY BEGIN CATCH THROW END CATCH SELECT 2", &["Try", "Query"])]
    #[case::declare("DECLARE @a int = 1, @b varchar(10) SET @b = 'x'", &["Declare", "Assign"])]
    #[case::execute("EXEC sp_who SELECT 1", &["Execute", "Query"])]
    #[case::dbcc("DBCC CHECKDB (N'x') WITH NO_INFOMSGS, PHYSICAL_ONLY", &["Dbcc"])]
    #[case::create_database("IF DB_ID(N'comeback') IS NULL CREATE DATABASE [comeback]", &["If"])]
    #[case::comments("-- one\n/* two */ SELECT 1 -- three", &["Query"])]
    #[case::nothing(" ; ", &[])]
    fn a_batch_is_read(#[case] text: &str, #[case] expected: &[&str]) {
        assert_eq!(kinds(text), expected);
    }

    #[rstest]
    #[case::misspelt("SELEC 1", "SELEC")]
    #[case::cut_short("SELECT * FROM", "EOF")]
    #[case::stray("SELECT 1 )", ")")]
    #[case::open_block("BEGIN SELECT 1", "the end of the batch")]
    fn a_syntax_error_says_near_what(#[case] text: &str, #[case] near: &str) {
        let error = batch(text).expect_err("it is malformed");
        assert_eq!((error.number, error.message), (102, format!("Incorrect syntax near '{near}'.")));
    }

    #[test]
    fn a_batch_too_long_to_walk_is_refused_and_not_a_crash() {
        let text = format!("SELECT 1{}", " + 1".repeat(MAX_TOKENS));
        assert_eq!(batch(&text).expect_err("it is too long").number, 191);
    }

    #[test]
    fn statements_know_their_lines() {
        let lines: Vec<u32> = batch("SELECT 1\n\nSELECT 2").expect("it is well formed").iter().map(|located| located.line).collect();
        assert_eq!(lines, [1, 3]);
    }

    #[test]
    fn the_parameters_of_sp_executesql_are_read() {
        let found = parameters("@P1 nvarchar(4000),@P2 bigint OUTPUT, @p3 varchar(max)").expect("they are well formed");
        let names: Vec<_> = found.iter().map(|(name, ty)| format!("{name} {ty}")).collect();
        assert_eq!(names, ["@P1 nvarchar(4000)", "@P2 bigint", "@p3 varchar(max)"]);
    }
}
