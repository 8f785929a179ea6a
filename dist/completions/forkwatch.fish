# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_forkwatch_global_optspecs
    string join \n p/pid= c/comm= u/uid= cgroup= unsafe threads o/output= time= d/duration= n/count= color= grace= stuck-after= stacks= record= clone-calls ring-bytes= h/help V/version
end

function __fish_forkwatch_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_forkwatch_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_forkwatch_using_subcommand
    set -l cmd (__fish_forkwatch_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c forkwatch -n "__fish_forkwatch_needs_command" -s p -l pid -d 'Only forks of this process and its descendants (repeatable)' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -s c -l comm -d 'Only where the comm of forker, child or new program matches, with * and ?' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -s u -l uid -d 'Only forks by this real uid' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l cgroup -d 'Only forks in this cgroup (version 2) and those below it, such as /system.slice/nginx.service' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -s o -l output -d 'How events are shown' -r -f -a "columns\t'A line an event, aligned'
json\t'A document of the schema `forkwatch.event/1` a line'"
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l time -d 'How times are shown in columns' -r -f -a "relative\t'Seconds since the start'
wall\t'The wall clock, in the local zone'"
complete -c forkwatch -n "__fish_forkwatch_needs_command" -s d -l duration -d 'End after this long, such as 30s or 5min' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -s n -l count -d 'End after this many events and findings' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l color -d 'When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l grace -d 'How long a child may live without exec before its fork is judged' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l stuck-after -d 'How long a child must have waited for a lock before it is reported as stuck, where the lock names its owner; other proofs take two or six times as long' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l stacks -d 'How the stacks of stuck threads are had: not at all; from outside, without stopping them; or with all their registers, for which each is stopped for some microseconds' -r -f -a "none\t'No stack is looked at'
light\t'From the stack and instruction pointers that `/proc` shows of a sleeping thread, and its memory: nothing is stopped. A frame that only another register leads to ends the stack'
full\t'Where such a stack ends early, with all registers of a thread that sleeps in `futex(2)`: it is stopped for them for some microseconds'"
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l record -d 'Also write what is judged to a file, for forkwatch replay' -r -F
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l ring-bytes -d 'Size of the ring of records: a power of two from 64 KiB to 64 MiB' -r
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l unsafe -d 'Only findings'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l threads -d 'Threads too'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -l clone-calls -d 'Watch the clone-family system calls themselves, and show those that fail; where the kernel refuses fentry this makes every system call on the host slower (forkwatch doctor tells)'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -s V -l version -d 'Print version'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "tail" -d 'Show forks and findings as they happen'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "daemon" -d 'Watch as a service: metrics for Prometheus, events as JSON lines'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "scan" -d 'Look for what forks have broken already: stuck children, pinned ports, processes that nobody waits for'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "demo" -d 'Fork unsafely on purpose, and show what forkwatch says of it'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "doctor" -d 'Say what this host supports, and what is missing'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "check" -d 'Say whether a fork of a running process would be safe now'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "explain" -d 'Explain a hazard: what it is, how it is found, how sure that is, what to change'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "replay" -d 'Judge a recording again, as tail and daemon make with --record'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "check-config" -d 'Check a configuration file, and show what is in force'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "completions" -d 'Print what a shell needs to complete this command line'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "man" -d 'Print the manual, of forkwatch or of one command, for man(1)'
complete -c forkwatch -n "__fish_forkwatch_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -s p -l pid -d 'Only forks of this process and its descendants (repeatable)' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -s c -l comm -d 'Only where the comm of forker, child or new program matches, with * and ?' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -s u -l uid -d 'Only forks by this real uid' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l cgroup -d 'Only forks in this cgroup (version 2) and those below it, such as /system.slice/nginx.service' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -s o -l output -d 'How events are shown' -r -f -a "columns\t'A line an event, aligned'
json\t'A document of the schema `forkwatch.event/1` a line'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l time -d 'How times are shown in columns' -r -f -a "relative\t'Seconds since the start'
wall\t'The wall clock, in the local zone'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -s d -l duration -d 'End after this long, such as 30s or 5min' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -s n -l count -d 'End after this many events and findings' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l color -d 'When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l grace -d 'How long a child may live without exec before its fork is judged' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l stuck-after -d 'How long a child must have waited for a lock before it is reported as stuck, where the lock names its owner; other proofs take two or six times as long' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l stacks -d 'How the stacks of stuck threads are had: not at all; from outside, without stopping them; or with all their registers, for which each is stopped for some microseconds' -r -f -a "none\t'No stack is looked at'
light\t'From the stack and instruction pointers that `/proc` shows of a sleeping thread, and its memory: nothing is stopped. A frame that only another register leads to ends the stack'
full\t'Where such a stack ends early, with all registers of a thread that sleeps in `futex(2)`: it is stopped for them for some microseconds'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l record -d 'Also write what is judged to a file, for forkwatch replay' -r -F
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l ring-bytes -d 'Size of the ring of records: a power of two from 64 KiB to 64 MiB' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l unsafe -d 'Only findings'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l threads -d 'Threads too'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -l clone-calls -d 'Watch the clone-family system calls themselves, and show those that fail; where the kernel refuses fentry this makes every system call on the host slower (forkwatch doctor tells)'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand tail" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l config -d 'The configuration file [default: /etc/forkwatch/forkwatch.toml, if it is there]' -r -F
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l web.listen-address -d 'Where to serve metrics (repeatable) [default: 127.0.0.1:10047]' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l web.telemetry-path -d 'Path of the metrics [default: /metrics]' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l events -d 'Where to write events, as JSON lines: none, stdout, or a file, which is rotated by size [default: none]' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l log.format -d 'How the log looks [default: auto]' -r -f -a "auto\t'Text; for the systemd journal, where that reads it, with priorities and without times'
text\t'Text with times'
json\t'One JSON object a line'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l log.level -d 'The least severe level that is logged [default: info]' -r -f -a "error\t'Only what makes forkwatch unable to do its work'
warn\t'Also what makes it do less than asked'
info\t'Also what it does'
debug\t'Also how it does it'
trace\t'Also each step'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l grace -d 'How long a child may live without exec before its fork is judged [default: 1s]' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l record -d 'Also write what is judged to a file, for forkwatch replay' -r -F
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -l clone-calls -d 'Watch the clone-family system calls themselves: how long they take, which fail and why. Where the kernel refuses fentry this makes every system call on the host slower (forkwatch doctor tells)'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand daemon" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand scan" -s o -l output -d 'How the result is shown' -r -f -a "text\t'For a reader'
json\t'A document of the structure `forkwatch.scan/1`'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand scan" -l stuck-after -d 'How long a child must have waited for a lock to be called stuck, where the lock names its owner; other proofs take two or six times as long' -r
complete -c forkwatch -n "__fish_forkwatch_using_subcommand scan" -l stacks -d 'How the stacks of stuck threads are had: not at all; from outside, without stopping them; or with all their registers, for which each is stopped for some microseconds' -r -f -a "none\t'No stack is looked at'
light\t'From the stack and instruction pointers that `/proc` shows of a sleeping thread, and its memory: nothing is stopped. A frame that only another register leads to ends the stack'
full\t'Where such a stack ends early, with all registers of a thread that sleeps in `futex(2)`: it is stopped for them for some microseconds'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand scan" -l color -d 'When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand scan" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand demo" -s o -l output -d 'How events are shown; with json the explanations go to stderr' -r -f -a "columns\t'A line an event, aligned'
json\t'A document of the schema `forkwatch.event/1` a line'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand demo" -l color -d 'When to use colour; `NO_COLOR` and `CLICOLOR_FORCE` are honoured' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand demo" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand doctor" -s o -l output -d 'How the result is shown' -r -f -a "text\t'For a reader'
json\t'A document of the structure `forkwatch.doctor/1`'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand check" -s o -l output -d 'How the answer is shown' -r -f -a "text\t'For a reader'
json\t'A document of the structure `forkwatch.check/1`'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand explain" -s h -l help -d 'Print help'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand replay" -s o -l output -d 'How events are shown' -r -f -a "columns\t'A line an event, aligned'
json\t'A document of the schema `forkwatch.event/1` a line'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand replay" -l time -d 'How times are shown in columns' -r -f -a "relative\t'Seconds since the start'
wall\t'The wall clock, in the local zone'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand replay" -l color -d 'When to use colour' -r -f -a "auto\t'On a terminal'
always\t'Always'
never\t'Never'"
complete -c forkwatch -n "__fish_forkwatch_using_subcommand replay" -l unsafe -d 'Only findings'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand check-config" -l config -d 'The same, as the daemon takes it' -r -F
complete -c forkwatch -n "__fish_forkwatch_using_subcommand check-config" -s q -l quiet -d 'Say nothing where it can be used'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand check-config" -s h -l help -d 'Print help'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand man" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "tail" -d 'Show forks and findings as they happen'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "daemon" -d 'Watch as a service: metrics for Prometheus, events as JSON lines'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "scan" -d 'Look for what forks have broken already: stuck children, pinned ports, processes that nobody waits for'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "demo" -d 'Fork unsafely on purpose, and show what forkwatch says of it'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "doctor" -d 'Say what this host supports, and what is missing'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "check" -d 'Say whether a fork of a running process would be safe now'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "explain" -d 'Explain a hazard: what it is, how it is found, how sure that is, what to change'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "replay" -d 'Judge a recording again, as tail and daemon make with --record'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "check-config" -d 'Check a configuration file, and show what is in force'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "completions" -d 'Print what a shell needs to complete this command line'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "man" -d 'Print the manual, of forkwatch or of one command, for man(1)'
complete -c forkwatch -n "__fish_forkwatch_using_subcommand help; and not __fish_seen_subcommand_from tail daemon scan demo doctor check explain replay check-config completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
