package main

import (
	"bufio"
	"bytes"
	"compress/lzw"
	"fmt"
	"log"
	"os"
)

// One line of base64 in, the compressed bytes as a line of base64 out; the parameters are
// memberlist's.
func compressLines() {
	input := bufio.NewScanner(os.Stdin)
	input.Buffer(nil, longestLine)
	for input.Scan() {
		var out bytes.Buffer
		writer := lzw.NewWriter(&out, lzw.LSB, 8)
		if _, err := writer.Write(decoded(input.Text())); err != nil {
			log.Fatal(err)
		}
		if err := writer.Close(); err != nil {
			log.Fatal(err)
		}
		fmt.Println(encoded(out.Bytes()))
	}
}
