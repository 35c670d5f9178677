package oldclient

import (
	"fmt"
	"strings"
)

// section of a UCI file. Options that stand twice count as they stand last.
type section struct {
	kind, name string
	options    map[string]string
	lists      map[string][]string
}

// maxInput bounds each file that is read.
const maxInput = 4 << 20

// parseUCI reads the text form of OpenWrt's configuration files.
func parseUCI(text string) ([]section, error) {
	if len(text) > maxInput {
		return nil, fmt.Errorf("larger than %d bytes", maxInput)
	}
	var out []section
	for i, line := range strings.Split(text, "\n") {
		words, err := uciWords(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		if len(words) == 0 || words[0] == "package" {
			continue
		}
		switch {
		case words[0] == "config" && (len(words) == 2 || len(words) == 3):
			s := section{kind: words[1], options: map[string]string{}, lists: map[string][]string{}}
			if len(words) == 3 {
				s.name = words[2]
			}
			out = append(out, s)
		case (words[0] == "option" || words[0] == "list") && len(words) == 3 && len(out) > 0:
			s := &out[len(out)-1]
			if words[0] == "option" {
				s.options[words[1]] = words[2]
			} else {
				s.lists[words[1]] = append(s.lists[words[1]], words[2])
			}
		default:
			return nil, fmt.Errorf("line %d: not a line of UCI", i+1)
		}
	}
	return out, nil
}

// uciWords splits a line: words may be partly in single or double quotes; in double quotes and outside of quotes a backslash takes
// the next character as it is.
func uciWords(line string) ([]string, error) {
	var out []string
	var word strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\' && quote != '\'' && i+1 < len(line):
			i++
			word.WriteByte(line[i])
			in = true
		case quote != 0:
			word.WriteByte(c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == '#' && !in:
			return out, nil
		case c == ' ' || c == '\t' || c == '\r':
			if in {
				out = append(out, word.String())
				word.Reset()
				in = false
			}
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote is not closed")
	}
	if in {
		out = append(out, word.String())
	}
	return out, nil
}
