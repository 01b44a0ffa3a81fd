package main

import (
	"os"
	"strings"
	"testing"
)

func TestRedactStore(t *testing.T) {
	for name, want := range map[string]string{
		"roster.db":                           "roster.db",
		"sqlite:/var/lib/a@b:c.db":            "sqlite:/var/lib/a@b:c.db",
		"postgres://host/db":                  "postgres://host/db",
		"postgres://host:5432/db":             "postgres://host:5432/db",
		"postgres://[::1]:5432/db":            "postgres://[::1]:5432/db",
		"postgres://me@host:5432/db":          "postgres://me@host:5432/db",
		"postgres://me:S3CRET@host/db":        "postgres://me:xxxxx@host/db",
		"postgresql://me:S3CRET@host:1/db":    "postgresql://me:xxxxx@host:1/db",
		"POSTGRES://me:S3CRET@host/db":        "POSTGRES://me:xxxxx@host/db",
		" postgres://me:S3CRET@host/db":       " postgres://me:xxxxx@host/db",
		"postgres:me:S3CRET@host/db":          "postgres:me:xxxxx@host/db",
		"postgres:/me:S3CRET@host/db":         "postgres:/me:xxxxx@host/db",
		"mysql://me:S3CRET@host/db":           "mysql://me:xxxxx@host/db",
		"sqlite://me:S3CRET@host/db":          "sqlite://me:xxxxx@host/db",
		"postgres://me:S3@CRET@host/db":       "postgres://me:xxxxx@host/db",
		"postgres://me:@S3CRET@@host/db":      "postgres://me:xxxxx@host/db",
		"postgres://me:S3:CRET@host/db":       "postgres://me:xxxxx@host/db",
		"postgres://me:S3/CRET@host/db":       "postgres://me:xxxxx@host/db",
		"postgres://me:S3?CRET@host/db":       "postgres://me:xxxxx",
		"postgres://me:S3#CRET@host/db":       "postgres://me:xxxxx@host/db",
		"postgres://m/e:S3CRET@host/db":       "postgres://m/e:xxxxx@host/db",
		"postgres://me:12?S3CRET@host/db":     "postgres://me:xxxxx",
		"postgres://me:S3@CR?ET@host/db":      "postgres://me:xxxxx",
		"postgres://me:S3CRET@h/?user=a@b":    "postgres://me:xxxxx",
		"sqlite:postgres://me:S3CRET@host/db": "sqlite:postgres://me:xxxxx@host/db",
		"postgres://me:S3%40CRET@host/db":     "postgres://me:xxxxx@host/db",
		"postgres://me:S3%zzCRET@host/db":     "postgres://me:xxxxx@host/db",
		"postgres://m%40e:S3CRET@host/db":     "postgres://m%40e:xxxxx@host/db",
		"postgres://me:S3CRET@[::1]:1/db":     "postgres://me:xxxxx@[::1]:1/db",
		"postgres://me:S3CRET@a:1,b:2/db":     "postgres://me:xxxxx@a:1,b:2/db",
		"postgres:///db?host=/run&user=me":    "postgres:///db?host=/run&user=me",
		"postgres://h/db?password=S3CRET":     "postgres://h/db?password=xxxxx",
		"postgres://h/db?PassWord=S3CRET":     "postgres://h/db?PassWord=xxxxx",
		"postgres://h/db?pass%77ord=S3CRET":   "postgres://h/db?pass%77ord=xxxxx",
		"postgres://h/db?p%zzw=S3CRET":        "postgres://h/db?p%zzw=xxxxx",
		"postgres://h/db?password=S3=CRET":    "postgres://h/db?password=xxxxx",
		"postgres://h/?sslpassword=S3CRET":    "postgres://h/?sslpassword=xxxxx",
		"postgres://h/?a=b&password=S3CRET&c": "postgres://h/?a=b&password=xxxxx&c",
		"postgres://h/?password=S3@CRET":      "postgres://h/?password=xxxxx",
		"postgres://h:1/?password=S3@CRET":    "postgres://h:xxxxx",
		"host=h password=S3CRET dbname=d":     "host=h password=xxxxx dbname=d",
		"host=h PASSWORD = 'S3 CRET' dbname=": "host=h PASSWORD = xxxxx dbname=",
		`host=h password='S3\' CRET' user=me`: "host=h password=xxxxx user=me",
		"host=h password='S3CRET":             "host=h password=xxxxx",
		`"postgres://me:S3CRET@host/db"`:      "xxxxx",
		"'postgres://me:S3CRET@host/db'":      "xxxxx",
		"jdbc:postgresql://me:S3CRET@host/db": "xxxxx",
		"DATABASE_URL=postgres://me:S3CRET@h": "xxxxx",
		"postgres//me:S3CRET@host/db":         "xxxxx",
		"https:/me:S3CRET@host":               "xxxxx",
		"file:postgres://me:S3CRET@host/db":   "xxxxx",
		"me:S3CRET@tcp(host:3306)/db":         "xxxxx",
		"PGPASSWORD=S3CRET host=h":            "xxxxx",
		"Server=h;Uid=me;Pwd=S3CRET":          "xxxxx",
		"postgres://h/db?a=x;password=S3CRET": "postgres://xxxxx",
		"postgres://h/db?pwd=S3CRET":          "postgres://xxxxx",
		"postgres://h/db#password=S3CRET":     "postgres://xxxxx",
		"postgres://me:S3CRET":                "postgres://xxxxx",
		"postgres://me:S3CRET/host/db":        "postgres://xxxxx",
		"host=h password='S3''CRET'":          "xxxxx",
		"host=h password=\\\nS3CRET":          "xxxxx",
	} {
		if got := redactStore(name); got != want || strings.Contains(got, "S3") || strings.Contains(got, "CRET") {
			t.Errorf("%s is shown as %s, want %s", name, got, want)
		}
	}
}

// Neither a refusal nor the log has a password that --store has.
func TestAPasswordInStoreIsNotShown(t *testing.T) {
	t.Chdir(t.TempDir())
	users := "users.csv"
	if err := os.WriteFile(users, []byte("id,name,age,email\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{
		"postgres://me:S3CRET@host/db", "Postgres://me:S3@CRET@host/db", "postgres:me:S3CRET@host/db", "sqlite:postgres://me:S3CRET@host/db",
		"sqlite://me:S3CRET@host", "mysql://me:S3CRET@host/db", "postgres://host/db?password=S3CRET", "host=h user=me password=S3CRET",
	} {
		for _, arguments := range [][]string{{"serve", "--addr", "localhost:0"}, {"serve", "--sample", "--addr", "localhost:0"}, {"import", users}} {
			check := func(arguments ...string) {
				t.Helper()
				code, stdout, stderr := roster(t, arguments...)
				if code != 2 || stdout != "" || !strings.Contains(stderr, "--store ") || strings.Contains(stderr, "CRET") {
					t.Errorf("%q with %s: exit code %d, %s%s", arguments, store, code, stdout, stderr)
				}
			}
			check(append(arguments, "--store", store)...)
			t.Setenv("ROSTER_STORE", store)
			check(arguments...)
			os.Unsetenv("ROSTER_STORE")
		}
	}
}
