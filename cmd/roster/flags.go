package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// A flagRow is one flag in the table of a command. The help, the environment variable, the check
// of the value, the completion and the man page all follow from the row.
type flagRow struct {
	group string // the heading under which the help lists the flag; empty is "Flags"
	name  string // "max-batch" is the flag --max-batch and the variable ROSTER_MAX_BATCH
	setting
	help string
}

// A setting is what a flag sets: made by into, choice or parsed.
type setting struct {
	define func(flags *pflag.FlagSet, name, help string)
	check  func() error // says what is wrong with the value, nil if every value is right
	words  []string     // what a shell offers to complete
}

// into returns a setting that is stored in target, which is value by default. The error of check,
// which may be nil, continues the sentence "--flag VALUE: "; one that says more about several
// flags is a usageError, and printed as it is.
func into[T string | bool | int | float64 | time.Duration | []string](target *T, value T, check func(T) error) setting {
	s := setting{define: func(flags *pflag.FlagSet, name, help string) {
		switch target := any(target).(type) {
		case *string:
			flags.StringVar(target, name, *target, help)
		case *bool:
			flags.BoolVar(target, name, *target, help)
		case *int:
			flags.IntVar(target, name, *target, help)
		case *float64:
			flags.Float64Var(target, name, *target, help)
		case *time.Duration:
			flags.DurationVar(target, name, *target, help)
		case *[]string:
			flags.StringSliceVar(target, name, *target, help)
			flag := flags.Lookup(name)
			flag.Value, flag.DefValue = listValue{flag.Value}, ""
		}
	}}
	*target = value
	if check != nil {
		s.check = func() error { return check(*target) }
	}
	return s
}

// A listValue is a list whose parts are not empty. Without it an empty value, such as that of a variable
// that a script did not set, would be a list without parts, and pass unnoticed.
type listValue struct{ pflag.Value }

// Set implements pflag.Value.
func (v listValue) Set(text string) error {
	if strings.TrimSpace(text) == "" {
		return errors.New("it is empty: give a value, or leave out the flag")
	}
	return v.Value.Set(text)
}

// choice returns a setting that is one of words, or value, its default.
func choice(target *string, value string, words ...string) setting {
	return into(target, value, func(text string) error {
		if text == value || slices.Contains(words, text) {
			return nil
		}
		return errors.New("want " + strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1])
	}).completedBy(words...)
}

// parsed returns a setting of a type that checks itself as it is set.
func parsed(target pflag.Value) setting {
	return setting{define: func(flags *pflag.FlagSet, name, help string) { flags.Var(target, name, help) }}
}

// checkedBy returns the setting with a check of it beside other flags. Its error is a usageError.
func (s setting) checkedBy(check func() error) setting {
	s.check = check
	return s
}

// completedBy returns the setting with words for the shell to offer.
func (s setting) completedBy(words ...string) setting {
	s.words = words
	return s
}

func positive(d time.Duration) error {
	if d <= 0 {
		return errors.New("must be more than 0")
	}
	return nil
}

func atLeastOne(n int) error {
	if n < 1 {
		return errors.New("must be at least 1")
	}
	return nil
}

func notNegative(d time.Duration) error {
	if d < 0 {
		return errors.New("must not be negative")
	}
	return nil
}

// groupAnnotation marks a flag with its group.
const groupAnnotation = "roster_group"

// addFlags gives a command the flags of its table. They are checked before the command runs, once
// the environment has been read (see newRootCommand).
func addFlags(command *cobra.Command, table []flagRow) {
	flags := command.Flags()
	flags.SortFlags = false // the order of the table
	for _, row := range table {
		row.define(flags, row.name, row.help)
		if err := flags.SetAnnotation(row.name, groupAnnotation, []string{row.group}); err != nil {
			panic(err) // the flag was defined the line before
		}
		if row.words != nil {
			complete := cobra.FixedCompletions(row.words, cobra.ShellCompDirectiveNoFileComp)
			if err := command.RegisterFlagCompletionFunc(row.name, complete); err != nil {
				panic(err) // likewise
			}
		}
	}
	command.PreRunE = func(*cobra.Command, []string) error { return checkFlags(flags, table) }
	command.SetUsageFunc(printUsage)
}

// checkFlags returns what is wrong with the first flag whose value is wrong.
func checkFlags(flags *pflag.FlagSet, table []flagRow) error {
	for _, row := range table {
		if row.check == nil {
			continue
		}
		err := row.check()
		switch {
		case err == nil:
			continue
		case errors.As(err, new(usageError)):
			return err
		}
		value := flags.Lookup(row.name).Value
		text := value.String()
		if value.Type() == "string" {
			text = strconv.Quote(text)
		}
		return usage("--%s %s: %w", row.name, text, err)
	}
	return nil
}

// A flagGroup is the flags under one heading.
type flagGroup struct {
	title string
	flags *pflag.FlagSet
}

// flagGroups returns the flags of a command by their groups, in the order of its table. Last comes
// --help, which is in no table.
func flagGroups(command *cobra.Command) []flagGroup {
	var groups []flagGroup
	place := make(map[string]int)
	command.LocalFlags().VisitAll(func(flag *pflag.Flag) {
		title := "Flags"
		if group := flag.Annotations[groupAnnotation]; len(group) > 0 && group[0] != "" {
			title = group[0]
		}
		at, found := place[title]
		if !found {
			at = len(groups)
			place[title] = at
			groups = append(groups, flagGroup{title, pflag.NewFlagSet(title, pflag.ContinueOnError)})
			groups[at].flags.SortFlags = false
		}
		groups[at].flags.AddFlag(flag)
	})
	return groups
}

// printUsage is cobra's usage of a command without subcommands, with its flags in groups.
func printUsage(command *cobra.Command) error {
	w := command.OutOrStderr()
	fmt.Fprintf(w, "Usage:\n  %s\n", command.UseLine())
	if command.HasExample() {
		fmt.Fprintf(w, "\nExamples:\n%s\n", command.Example)
	}
	for _, group := range flagGroups(command) {
		fmt.Fprintf(w, "\n%s:\n%s", group.title, group.flags.FlagUsages())
	}
	_, err := io.WriteString(w, "\nEvery flag has an environment variable: --some-flag is ROSTER_SOME_FLAG.\n")
	return err
}

// setFromEnvironment gives each flag that the command line leaves out the value of its ROSTER_…
// variable, if that is set and not empty.
func setFromEnvironment(flags *pflag.FlagSet) error {
	var failed error
	flags.VisitAll(func(flag *pflag.Flag) {
		if flag.Changed || failed != nil || flag.Name == "help" || flag.Name == "version" {
			return
		}
		name := environmentName(flag.Name)
		value := os.Getenv(name)
		if value == "" {
			return
		}
		if err := flags.Set(flag.Name, value); err != nil {
			failed = usage("%s=%q in the environment: %w", name, value, err)
		}
	})
	return failed
}

// An unknownVariable is a ROSTER_… variable that no flag of any command has.
type unknownVariable struct {
	name  string
	meant string // the variable that was perhaps meant, empty if none is similar
}

func (u unknownVariable) String() string {
	if u.meant == "" {
		return "the environment has " + u.name + ", which is no setting of Roster"
	}
	return "the environment has " + u.name + ", which is no setting of Roster: did you mean " + u.meant + "?"
}

// kubernetesVariables are those that Kubernetes sets in every pod for a service called roster.
var kubernetesVariables = regexp.MustCompile(`^ROSTER_(SERVICE_.*|PORT|PORT_\d+_.*)$`)

// unknownVariables returns the unknown variables of the environment.
func unknownVariables(root *cobra.Command) (unknown []unknownVariable) {
	var known []string
	var visit func(*cobra.Command)
	visit = func(command *cobra.Command) {
		command.Flags().VisitAll(func(flag *pflag.Flag) { known = append(known, environmentName(flag.Name)) })
		for _, sub := range command.Commands() {
			visit(sub)
		}
	}
	visit(root)
	for _, variable := range os.Environ() {
		name, value, _ := strings.Cut(variable, "=")
		if value == "" || !strings.HasPrefix(name, "ROSTER_") || slices.Contains(known, name) || kubernetesVariables.MatchString(name) {
			continue
		}
		meant := nearest(name, known)
		for _, candidate := range known {
			if strings.ReplaceAll(candidate, "_", "") == strings.ReplaceAll(name, "_", "") {
				meant = candidate
			}
		}
		unknown = append(unknown, unknownVariable{name, meant})
	}
	slices.SortFunc(unknown, func(a, b unknownVariable) int { return strings.Compare(a.name, b.name) })
	return unknown
}

// environmentName returns the variable of a flag.
func environmentName(flag string) string {
	return "ROSTER_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
