"""The command line: a table of verbs, each in a module that is imported when it is used."""
