package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"example.com/roster/server/auth"
)

func newTokenCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "token",
		Short: "Create, list and revoke the tokens of a server",
		Long: `Token manages the file that roster serve --tokens reads: who may call, and
and whether they may only read users (read), or also change them and read the
history of changes (write). The methods of bridged servers need one of the two
as well: see --bridge-role.

The file has the hashes of tokens, so a token is shown once, when it is
created. A running server reloads the file within a second of a change.`,
		Args: noCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	command.AddCommand(newTokenCreateCommand(), newTokenListCommand(), newTokenRevokeCommand())
	return command
}

// tokenFlags are the flags that all token commands have.
type tokenFlags struct {
	file   string
	output outputFlag
}

// table returns the flags of a token command, with more of its own.
func (f *tokenFlags) table(more ...flagRow) []flagRow {
	f.output = outputTable
	table := []flagRow{{"", "tokens", into(&f.file, "", checkTokenFile), "the token file, as roster serve has it"}}
	table = append(table, more...)
	return append(table, flagRow{"", "output", parsed(&f.output).completedBy(outputFormats...), "how to print: table or json"})
}

func checkTokenFile(file string) error {
	if file == "" {
		return usage("name the token file: --tokens FILE, or ROSTER_TOKENS in the environment")
	}
	return nil
}

func newTokenCreateCommand() *cobra.Command {
	var f tokenFlags
	var name, certificate, role, expires string
	command := &cobra.Command{
		Use:   "create --role read|write --name NAME",
		Short: "Create a token, or give a role to a client certificate",
		Long: `Create makes a token and prints it once: the file keeps only its hash. If there
is no file it is made, readable by its owner only.

With --certificate it makes no token, but gives the role to callers that present
a client certificate of that name (see roster serve --tls-client-ca).`,
		Example: `  roster token create --tokens tokens.json --role read --name dashboard
  (umask 077; roster token create --tokens tokens.json --role write --name import --expires 90d >import.token)
  roster token create --tokens tokens.json --role write --certificate billing.example.com`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			r, err := auth.ParseRole(role)
			if err != nil {
				return err
			}
			now := time.Now()
			var end time.Time
			if expires != "" {
				age, err := parseAge(expires)
				if err != nil {
					return err
				}
				end = now.Add(age)
			}
			return runTokenCreate(cmd.OutOrStdout(), cmd.ErrOrStderr(), f, cmp.Or(name, certificate), certificate, r, now, end)
		},
	}
	checkRole := func(text string) error {
		if _, err := auth.ParseRole(text); err != nil {
			return errors.New("want read or write")
		}
		return nil
	}
	checkName := func(string) error {
		if name == "" && certificate == "" {
			return usage("say who the token is for: --name NAME")
		}
		return nil
	}
	checkExpires := func(text string) error {
		if text == "" {
			return nil
		}
		_, err := parseAge(text)
		return err
	}
	addFlags(command, f.table(
		flagRow{"", "role", into(&role, "", checkRole).completedBy(auth.Read.String(), auth.Write.String()),
			"read: look users up, list and watch them; write: change them, too, and read who changed what"},
		flagRow{"", "name", into(&name, "", checkName),
			"name of the caller, which the log shows; by default the name in --certificate"},
		flagRow{"", "certificate", into(&certificate, "", nil),
			"the name in a client certificate that gets the role, instead of a token"},
		flagRow{"", "expires", into(&expires, "", checkExpires),
			"how long it is valid, such as 90d or 12h; by default until it is revoked"},
	))
	return command
}

func runTokenCreate(stdout, stderr io.Writer, f tokenFlags, name, certificate string, role auth.Role, now, expires time.Time) error {
	var made auth.Entry
	printed := false
	err := auth.Update(f.file, true, func(entries []auth.Entry) (_ []auth.Entry, err error) {
		if certificate != "" {
			entries, made, err = auth.NewCertificate(entries, name, certificate, role, now, expires)
			return entries, err
		}
		var secret string
		if entries, made, secret, err = auth.NewToken(entries, name, role, now, expires); err != nil {
			return nil, err
		}
		// Before the file is changed: a token whose secret nobody has seen must not be in it.
		if err := printToken(stdout, stderr, f.output, made, secret); err != nil {
			return nil, fmt.Errorf("the token could not be printed, and was not kept: %s", err)
		}
		printed = true
		return entries, nil
	})
	switch {
	case err != nil && printed:
		return fmt.Errorf("the token that was printed is not valid, because it could not be kept: %w", err)
	case err != nil || certificate == "":
		return err
	case f.output == outputJSON:
		return printJSON(stdout, describe(made, ""))
	}
	_, err = fmt.Fprintf(stderr, "certificate %q has the role %v (%s)\n", certificate, role, made.ID)
	return err
}

// printToken prints a new token. Of the table, only the secret goes to standard output, so that it can
// be redirected into a file.
func printToken(stdout, stderr io.Writer, format outputFlag, made auth.Entry, secret string) error {
	if format == outputJSON {
		return printJSON(stdout, describe(made, secret))
	}
	fmt.Fprintf(stderr, "token %q with the role %v (%s), shown this once:\n", made.Name, made.Role, made.ID)
	_, err := fmt.Fprintln(stdout, secret)
	return err
}

func newTokenListCommand() *cobra.Command {
	var f tokenFlags
	command := &cobra.Command{
		Use:   "list",
		Short: "List the tokens and certificates of a file",
		Example: `  roster token list --tokens tokens.json
  roster token list --tokens tokens.json --output json | jq -r '.[] | select(.expired) | .name'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			entries, err := auth.ReadFile(f.file)
			if err != nil {
				return err
			}
			descriptions := make([]tokenDescription, len(entries))
			for i, entry := range entries {
				descriptions[i] = describe(entry, "")
			}
			if f.output == outputJSON {
				return printJSON(cmd.OutOrStdout(), descriptions)
			}
			return printTokens(cmd.OutOrStdout(), descriptions)
		},
	}
	addFlags(command, f.table())
	return command
}

func newTokenRevokeCommand() *cobra.Command {
	var f tokenFlags
	command := &cobra.Command{
		Use:   "revoke NAME|ID",
		Short: "Revoke a token, or take a certificate's role away",
		Long: `Revoke removes a token from the file. A running server refuses it within a
second; calls that it has let in before may finish.`,
		Example: `  roster token revoke --tokens tokens.json dashboard`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usage("revoke takes one NAME or ID, got %d", len(args))
			}
			return nil
		},
		ValidArgsFunction: func(_ *cobra.Command, _ []string, _ string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return tokenNames(f.file), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			var revoked auth.Entry
			err := auth.Update(f.file, false, func(entries []auth.Entry) (_ []auth.Entry, err error) {
				entries, revoked, err = auth.Revoke(entries, args[0])
				return entries, err
			})
			if err != nil {
				return err
			}
			if f.output == outputJSON {
				return printJSON(cmd.OutOrStdout(), describe(revoked, ""))
			}
			_, err = fmt.Fprintf(cmd.ErrOrStderr(), "%q (%s) revoked\n", revoked.Name, revoked.ID)
			return err
		},
	}
	addFlags(command, f.table())
	return command
}

// tokenNames returns the names that a shell offers to complete.
func tokenNames(file string) []cobra.Completion {
	if file == "" {
		file = os.Getenv(environmentName("tokens"))
	}
	entries, err := auth.ReadFile(file)
	if err != nil {
		return nil
	}
	names := make([]cobra.Completion, len(entries))
	for i, entry := range entries {
		names[i] = entry.Name
	}
	return names
}

// tokenDescription is an entry as it is printed.
type tokenDescription struct {
	ID          string    `json:"id"`
	Name        string    `json:"name"`
	Role        auth.Role `json:"role"`
	Certificate string    `json:"certificate,omitempty"`
	Created     time.Time `json:"created"`
	Expires     time.Time `json:"expires,omitzero"`
	Expired     bool      `json:"expired"`
	Token       string    `json:"token,omitempty"`
}

func describe(e auth.Entry, secret string) tokenDescription {
	return tokenDescription{e.ID, e.Name, e.Role, e.Certificate, e.Created, e.Expires, e.Expired(time.Now()), secret}
}

func printTokens(w io.Writer, tokens []tokenDescription) error {
	const columnGap = 2
	table := tabwriter.NewWriter(w, 0, 0, columnGap, ' ', 0)
	fmt.Fprintln(table, "ID\tNAME\tROLE\tCREATED\tEXPIRES\tCERTIFICATE")
	for _, t := range tokens {
		expires, certificate := "never", "-"
		if !t.Expires.IsZero() {
			expires = t.Expires.Local().Format(time.DateTime)
		}
		if t.Expired {
			expires += " (expired)"
		}
		if t.Certificate != "" {
			certificate = t.Certificate
		}
		fmt.Fprintf(table, "%s\t%s\t%v\t%s\t%s\t%s\n", t.ID, t.Name, t.Role, t.Created.Local().Format(time.DateTime), expires, certificate)
	}
	return table.Flush()
}

// maxAge is a century: a token that is to last longer needs no end.
const maxAge = 36500 * 24 * time.Hour

// parseAge parses a duration that may be in days.
func parseAge(text string) (time.Duration, error) {
	age, err := time.ParseDuration(text)
	if days, ok := strings.CutSuffix(text, "d"); ok {
		var n int
		if n, err = strconv.Atoi(days); err == nil && n <= int(maxAge/(24*time.Hour)) {
			age = time.Duration(n) * 24 * time.Hour
		} else if err == nil {
			age = maxAge + 1
		}
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("want days or a duration, such as 90d or 12h")
	case age <= 0:
		return 0, fmt.Errorf("must be more than 0")
	case age > maxAge:
		return 0, fmt.Errorf("is over a century: leave --expires out for a token without an end")
	}
	return age, nil
}
