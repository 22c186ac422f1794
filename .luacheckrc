std = "lua54"
max_line_length = 100
unused_args = true
files["tests/**/*_spec.lua"] = { std = "+busted", read_globals = { "async" } }
