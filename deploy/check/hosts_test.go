package check

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestSystemd has systemd itself look at the units.
func TestSystemd(t *testing.T) {
	checkSettings(t, "serve", "../systemd/coordinator.conf")
	checkSettings(t, "work", "../systemd/worker.conf")
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("SKIPPED: there is no systemd-analyze, so the units of systemd are not verified (Debian: systemd)")
	}
	folder := t.TempDir()
	var units []string
	for _, name := range []string{"tallyman.service", "tallyman-worker@.service"} {
		content, err := os.ReadFile(filepath.Join("../systemd", name))
		if err != nil {
			t.Fatal(err)
		}
		unit := string(content)
		command, _, _ := strings.Cut(unit[strings.Index(unit, "ExecStart=")+len("ExecStart=/usr/bin/tallyman "):], "\n")
		checkCommand(t, name, strings.Fields(command), nil)
		// What is verified must be there to be run.
		unit = strings.ReplaceAll(unit, "/usr/bin/tallyman", binary)
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
		units = append(units, strings.Replace(path, "@.", "@1.", 1))
		if err := os.WriteFile(units[len(units)-1], []byte(unit), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no", "--recursive-errors=no"}, units...)...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	out, err = exec.Command(analyze, append([]string{"security", "--offline=yes", "--threshold=30"}, units...)...).CombinedOutput()
	if err != nil {
		t.Errorf("the units may do more than they need: %v\n%s", err, out)
	}
}

// TestSlurm runs the script of the array as Slurm would, but for what it runs.
func TestSlurm(t *testing.T) {
	folder := t.TempDir()
	said := filepath.Join(folder, "said")
	program := "#!/bin/sh\nprintf '%s\\n' \"$@\" > " + said + "\n"
	if err := os.WriteFile(filepath.Join(folder, "tallyman"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	script := exec.Command("bash", "../slurm/workers.sbatch", "--kind", "ner", "--exec", "python3 ner.py")
	script.Env = append(os.Environ(), "PATH="+folder+":"+os.Getenv("PATH"),
		"SLURM_ARRAY_JOB_ID=17", "SLURM_ARRAY_TASK_ID=3", "SLURM_CPUS_PER_TASK=4")
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	content, err := os.ReadFile(said)
	if err != nil {
		t.Fatal(err)
	}
	arguments := strings.Split(strings.TrimSuffix(string(content), "\n"), "\n")
	want := []string{"work", "--worker-id", "slurm-17-3", "--slots", "4", "--exit-when-idle", "--drain-timeout", "100s", "--kind", "ner", "--exec", "python3 ner.py"}
	if strings.Join(arguments, "|") != strings.Join(want, "|") {
		t.Errorf("it runs tallyman %q, want %q", arguments, want)
	}
	checkCommand(t, "workers.sbatch", arguments, []string{"TALLYMAN_SERVER", "TALLYMAN_STORE"})
	alone := exec.Command("bash", "../slurm/workers.sbatch")
	if out, err := alone.CombinedOutput(); err == nil || !strings.Contains(string(out), "run this by sbatch") {
		t.Errorf("outside of Slurm: %v: %s", err, out)
	}
}
