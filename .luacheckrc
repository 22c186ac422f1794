std = "lua54"
max_line_length = 100
unused_args = true
files["tests/**/*_spec.lua"] = { std = "+busted", read_globals = { "async" } }
-- Types only: functions without bodies.
files["bindings/meta/*.lua"] = { unused_args = false, ignore = { "212", "241" } }
