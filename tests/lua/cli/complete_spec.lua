--- lua/peerup/cli/complete.lua and scripts/commands/completion.lua: what fits where, in real shells
-- too.
local support = dofile((os.getenv "PEERUP_SOURCE" or ".") .. "/tests/support/commands.lua")
local fs = require "peerup.fs"
local keys = require "peerup.authorized_keys"

--- A home with names, services and peers.
local function home()
  local dir = support.dir()
  local _, base = support.node_home(dir, function(text)
    text = text:gsub("\nnames:[^\n]*", ""):gsub("\nservices:[^\n]*", "")
    return text .. "\nnames:\n  laptop: " .. support.PEERS[1] .. "\n  lamp: " .. support.PEERS[3]
      .. "\nservices:\n  ssh:\n    enabled: true\n    local_address: localhost:22\n"
      .. "  web:\n    enabled: true\n    local_address: localhost:80\n"
  end)
  local text = assert(keys.add("", support.PEERS[2], "the $(touch /tmp/x) phone", {}))
  assert(fs.write(base .. "/authorized_keys", text))
  return dir, base
end

--- The words that are offered for a line.
local function offered(dir, ...)
  local code, out, errors = support.run({ home = dir.path }, "completion", "words", "--", ...)
  assert.equal(0, code)
  assert.equal("", errors)
  local list = {}
  for word in out:gmatch "([^\t\n]+)\t[^\n]*\n" do list[#list + 1] = word end
  return table.concat(list, " ")
end

local function run_in(shell, script, ...)
  local path = os.tmpname()
  assert(fs.write(path, script))
  local words = { path, ... }
  for i, word in ipairs(words) do words[i] = "'" .. word:gsub("'", "'\\''") .. "'" end
  local pipe = assert(io.popen(("%s %s 2>&1"):format(shell, table.concat(words, " "))))
  local out = pipe:read "a"
  local ok = pipe:close()
  os.remove(path)
  return ok, out
end

describe("completion", function()
  it("offers commands, subcommands and flags", async(function()
    local dir <close> = support.dir()
    assert.equal("ping", offered(dir, "pi"))
    assert.matches("^auth .*whoami help$", offered(dir, ""))
    assert.equal("validate", offered(dir, "relay", "config", "v"))
    assert.equal("--json", offered(dir, "ping", "--j"))
    assert.equal("--json", offered(dir, "ping", "-j"))
    assert.equal("--invite --name --config --help", offered(dir, "daemon", "-"))
    assert.equal("--help --version", offered(dir, "-"))
    assert.equal("auth", offered(dir, "help", "au"))
    assert.equal("", offered(dir, "no-such", ""))
    assert.equal("", offered(dir, "auth", "no-such", ""))
    assert.equal("", offered(dir, "ping", "--", "--j"))
  end))

  it("offers what the config names", async(function()
    local dir <close> = home()
    assert.equal("lamp laptop " .. support.PEERS[2], offered(dir, "ping", ""))
    assert.equal("laptop", offered(dir, "ping", "--json", "--count", "3", "lap"))
    assert.equal("", offered(dir, "ping", "laptop", ""))
    assert.equal("ssh web", offered(dir, "service", "disable", ""))
    assert.equal("", offered(dir, "service", "add", ""))
    assert.equal("", offered(dir, "daemon", "connect", "--service", ""))
    assert.equal("lamp", offered(dir, "daemon", "connect", "--peer", "lam"))
    assert.equal("lamp", offered(dir, "daemon", "connect", "--peer", "=", "lam"))
    assert.equal(support.PEERS[2], offered(dir, "auth", "remove", "12D"))
  end))

  it("reads the config that the line names", async(function()
    local dir <close> = home()
    local other <close> = support.dir()
    local path = dir.path .. "/.config/peerup/config.yaml"
    assert.equal("", offered(other, "ping", "lap"))
    assert.equal("laptop", offered(other, "ping", "--config", path, "lap"))
    assert.equal("laptop", offered(other, "ping", "--config=" .. path, "lap"))
    assert.equal("laptop", offered(other, "ping", "--config", "=", path, "lap"))
    assert.equal("", offered(other, "ping", "--config", "/no/such", "lap"))
  end))

  it("offers nothing that a shell would read as more than a word", async(function()
    local dir <close>, base = home()
    local path = base .. "/config.yaml"
    assert(fs.write(path, (fs.read(path):gsub("  lamp:",
      "  \"la$(id)\": " .. support.PEERS[3] .. "\n  \"-rf\": " .. support.PEERS[3]
        .. "\n  lamp:"))))
    assert.is_nil(offered(dir, "ping", ""):find("[^%w ._-]"))
    assert.is_nil(offered(dir, "ping", ""):find("-rf", 1, true))
  end))

  it("works in bash", async(function()
    local dir <close> = home()
    local _, script = support.run({}, "completion", "bash")
    local ok, out = run_in("bash", script .. [[
      export HOME=$1
      try() {
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _peerup
        printf '[%s]' "${COMPREPLY[*]}"
      }
      try "$2" whoa; try "$2" ping la; try "$2" ping --co; try "$2" service enable ''
      complete -p peerup
    ]], dir.path, assert(os.getenv "PEERUP"))
    assert.is_true(ok, out)
    assert.equal("[whoami][lamp laptop][--count --config][ssh web]"
      .. "complete -o default -F _peerup peerup\n", out)
  end))

  it("works in fish", async(function()
    local dir <close> = home()
    local _, script = support.run({}, "completion", "fish")
    local ok, out = run_in("fish", [[
      set -x HOME $argv[1]
      set -x PATH (dirname $argv[2]) $PATH
      ]] .. script .. [[
      for line in 'peerup whoa' 'peerup ping la' 'peerup ping --co' 'peerup service enable ' \
          "peerup config apply $argv[1]/.conf"
        echo (complete -C $line | string replace -r '\t.*' '')
      end
    ]], dir.path, assert(os.getenv "PEERUP"))
    assert.is_true(ok, out)
    assert.equal(("whoami\nlamp laptop\n--config --count\nssh web\n%s/.config/\n"):format(dir.path),
      out)
  end))

  -- A whole zsh with its line editor; sourced, then as a function that compinit finds by itself.
  for how, setup in pairs {
    sourced = "autoload -Uz compinit; compinit -u -D; source $1/script",
    installed = "fpath=($1/functions $fpath); autoload -Uz compinit; compinit -u -D",
  } do
    it("works in zsh, " .. how, async(function()
      local dir <close> = home()
      local _, script = support.run({}, "completion", "zsh")
      assert(fs.write(dir.path .. "/script", script))
      assert(fs.mkdir(dir.path .. "/functions"))
      assert(fs.write(dir.path .. "/functions/_peerup", script))
      local ok, out = run_in("timeout 20 zsh", [[
        zmodload zsh/zpty
        zpty z zsh -f -i
        zpty -w z "HOME=$1; set -- $1; cd; PATH=${2:h}:\$PATH; PS1=''; ]]
        .. setup:gsub("%$", "\\$") .. [[; print rea''dy"
        zpty -r -m z out '*ready*'
        try() { # line, what it shall become, or show
          zpty -w -n z $'\x15'"$1"$'\t'
          zpty -r -m z out "*$2*" && print -r -- "$2"
        }
        try 'peerup whoa' whoami
        try 'peerup service en' enable
        try 'peerup service enable w' 'enable web'
        try 'peerup ping --int' --interval
        try 'peerup ping la' 'lamp*laptop'
        try 'peerup config apply func' functions
        zpty -d z
      ]], dir.path, assert(os.getenv "PEERUP"))
      assert.is_true(ok, out)
      assert.equal("whoami\nenable\nenable web\n--interval\nlamp*laptop\nfunctions\n", out)
    end, 30))
  end
end)
